// Quantisation of rows to 8-bit floats of 4 exponent bits: with one scale per row, per run of RUN elements, for all
// elements, or with a given factor. A value is x / scale, where scale is the largest magnitude divided by 448.
//
// quantise_token: a block has one row. It reads the row for the largest magnitude and again, from L1 or L2, to convert.
// quantise_block: LANES neighbouring threads have one run, one access each, so every element is read once.
// quantise_tensor: a kernel finds the largest magnitude of all elements, another converts with it.
//
// Macros, set at compile time: VEC (elements per access, 4 or 8; divides a row), THREADS (threads per block, a power of
// two from 64 on), LANES (threads of a run, a power of two up to 32).

#define LARGEST 448.0f

__device__ __forceinline__ unsigned short narrow(float a, float b) {
#if __CUDA_ARCH__ >= 890
    unsigned short both;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(b), "f"(a));
    return both;
#else
    __trap();
    return 0;
#endif
}

__device__ __forceinline__ float magnitude(const vec& v) {
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < VEC; ++i) most = fmaxf(most, fabsf(to_float(v.e[i])));
    return most;
}

// Converts the elements of a vector and writes them in one access.
__device__ __forceinline__ void write(unsigned char* out, const vec& v, float factor) {
    unsigned short pairs[VEC / 2];
#pragma unroll
    for (int i = 0; i < VEC; i += 2) pairs[i / 2] = narrow(to_float(v.e[i]) * factor, to_float(v.e[i + 1]) * factor);
    if constexpr (VEC == 8)
        *(uint2*)out = *(const uint2*)pairs;
    else
        *(unsigned*)out = *(const unsigned*)pairs;
}

// The factor for values of at most this magnitude; zeros stay zeros.
__device__ __forceinline__ float factor_of(float most) { return most > 0.0f ? LARGEST / most : 0.0f; }

extern "C" __global__ void __launch_bounds__(THREADS) quantise_token(const element* x, unsigned char* out, float* scales, int cols) {
    __shared__ float scratch[32];
    const element* row = x + (long long)blockIdx.x * cols;
    unsigned char* to = out + (long long)blockIdx.x * cols;
    float most = 0.0f;
    for (int i = threadIdx.x * VEC; i < cols; i += THREADS * VEC) most = fmaxf(most, magnitude(load(row + i)));
    most = reduce<max_of, THREADS>(most, scratch);
    if (threadIdx.x == 0) scales[blockIdx.x] = most / LARGEST;
    float factor = factor_of(most);
    for (int i = threadIdx.x * VEC; i < cols; i += THREADS * VEC) write(to + i, load(row + i), factor);
}

// With ``across``, the number of rows, the scales of a run of all rows are neighbours, as products of blocks read them.
extern "C" __global__ void __launch_bounds__(THREADS) quantise_block(const element* x, unsigned char* out, float* scales, long long runs,
                                                                     int per_row, int across) {
    long long run = ((long long)blockIdx.x * THREADS + threadIdx.x) / LANES;
    long long at = (run * LANES + threadIdx.x % LANES) * VEC;
    bool there = run < runs;
    vec v = load(x + (there ? at : 0));
    float most = reduce<max_of, LANES>(magnitude(v), nullptr);
    if (!there) return;
    if (threadIdx.x % LANES == 0) scales[across ? run % per_row * across + run / per_row : run] = most / LARGEST;
    write(out + at, v, factor_of(most));
}

// Magnitudes are not negative, so their order is that of their bits.
extern "C" __global__ void __launch_bounds__(THREADS) quantise_largest(const element* x, unsigned* most_of_all, long long vectors) {
    __shared__ float scratch[32];
    float most = 0.0f;
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < vectors; i += (long long)gridDim.x * THREADS)
        most = fmaxf(most, magnitude(load(x + i * VEC)));
    most = reduce<max_of, THREADS>(most, scratch);
    if (threadIdx.x == 0) atomicMax(most_of_all, __float_as_uint(most));
}

extern "C" __global__ void __launch_bounds__(THREADS) quantise_cast(const element* x, unsigned char* out, const float* most_of_all, float* scale,
                                                                    long long vectors) {
    float most = *most_of_all, factor = factor_of(most);
    long long first = (long long)blockIdx.x * THREADS + threadIdx.x;
    if (first == 0) *scale = most / LARGEST;
    for (long long i = first; i < vectors; i += (long long)gridDim.x * THREADS) write(out + i * VEC, load(x + i * VEC), factor);
}

extern "C" __global__ void __launch_bounds__(THREADS) quantise_static(const element* x, unsigned char* out, const float* factor, long long vectors) {
    float own = *factor;
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < vectors; i += (long long)gridDim.x * THREADS)
        write(out + i * VEC, load(x + i * VEC), own);
}
