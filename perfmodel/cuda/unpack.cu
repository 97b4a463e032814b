// Products of few rows with 4-bit weights, converted in registers: y = x W, weights stored by column as checkpoints have
// them. A warp has one column at a time. Its threads read 16 bytes of it each, 32 weights of one or two blocks, and
// multiply them with all ROWS rows of x, which stay in L1. A column is read once, so the kernel moves the weights and
// their scales once. Sums are in float32.
//
// A byte holds two weights, the first one in its low half. Scales are (D_out, blocks), in the order of the column.
// FORMAT 1: integers with scales in the element type and zero points, two in a byte; an even number of blocks of GROUP
// weights, a multiple of 32. FORMAT 2: MXFP4, scales are exponents of a power of two. FORMAT 3: NVFP4, scales are 8-bit
// floats of 4 exponent bits, and one float is for the matrix.
//
// Macros, set at compile time: VEC 8, ROWS (rows of x, 1 to 8), THREADS, FORMAT, GROUP (32 for MXFP4, 16 for NVFP4).

#define WEIGHTS 32  // of one access of a thread

// 4-bit floats: a sign, two bits of exponent, one of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
__device__ __forceinline__ float fp4(unsigned bits) {
    unsigned exponent = bits >> 1 & 3, mantissa = bits & 1;
    float value = exponent ? __uint_as_float((exponent + 126) << 23 | mantissa << 22) : 0.5f * mantissa;
    return bits & 8 ? -value : value;
}

// 8-bit floats of 4 exponent bits without sign.
__device__ __forceinline__ float fp8(unsigned bits) {
    unsigned exponent = bits >> 3 & 15, mantissa = bits & 7;
    return exponent ? __uint_as_float((exponent + 120) << 23 | mantissa << 20) : mantissa * 0.001953125f;
}

__device__ __forceinline__ float weight(unsigned word, int place) {
    unsigned bits = word >> 4 * place & 15;
#if FORMAT == 1
    return (float)bits;
#else
    return fp4(bits);
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS) unpack_product(const element* x, const uint4* weights, const void* scales,
                                                                     const unsigned char* zeros, float whole, element* y,
                                                                     int D_in, int D_out) {
    int lane = threadIdx.x % 32, blocks = D_in / GROUP;
    for (int column = (blockIdx.x * THREADS + threadIdx.x) / 32; column < D_out; column += gridDim.x * THREADS / 32) {
        float sums[ROWS] = {};
        const uint4* own = weights + (long long)column * (D_in / WEIGHTS);
        for (int at = lane; at < D_in / WEIGHTS; at += 32) {
            uint4 words = own[at];
            const unsigned* word = (const unsigned*)&words;
#pragma unroll
            for (int w = 0; w < 4; ++w) {
                int first = at * WEIGHTS + w * 8, block = first / GROUP;
#if FORMAT == 1
                float scale = to_float(((const element*)scales)[(long long)column * blocks + block]);
                float zero = zeros[(long long)column * (blocks / 2) + block / 2] >> block % 2 * 4 & 15;
#elif FORMAT == 2
                float scale = __uint_as_float((unsigned)((const unsigned char*)scales)[(long long)column * blocks + block] << 23);
                float zero = 0.0f;
#else
                float scale = fp8(((const unsigned char*)scales)[(long long)column * blocks + block]);
                float zero = 0.0f;
#endif
                float values[8];
#pragma unroll
                for (int i = 0; i < 8; ++i) values[i] = (weight(word[w], i) - zero) * scale;
#pragma unroll
                for (int row = 0; row < ROWS; ++row) {
                    vec v = load(x + (long long)row * D_in + first);
#pragma unroll
                    for (int i = 0; i < 8; ++i) sums[row] = fmaf(values[i], to_float(v.e[i]), sums[row]);
                }
            }
        }
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            float sum = reduce<sum_of, 32>(sums[row], nullptr);
            if (lane == 0) y[(long long)row * D_out + column] = from_float(sum * whole);
        }
    }
}
