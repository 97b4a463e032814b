// Kernels that measure one limit of a device each, for `perfmodel calibrate`.

typedef unsigned int u32;

// Sixteen independent chains of multiply-adds per thread, enough to hide the latency of each.
extern "C" __global__ void fma_fp32(float* out, int rounds) {
    float c[16];
    const float a = 1.0f + 1e-7f * threadIdx.x, b = 1e-9f * blockIdx.x;
    #pragma unroll
    for (int i = 0; i < 16; ++i) c[i] = i;
    for (int r = 0; r < rounds; ++r) {
        #pragma unroll
        for (int i = 0; i < 16; ++i) c[i] = fmaf(c[i], a, b);
    }
    float sum = 0;
    #pragma unroll
    for (int i = 0; i < 16; ++i) sum += c[i];
    if (sum == -1.0f) out[0] = sum;
}

extern "C" __global__ void fma_fp16(u32* out, int rounds) {
    u32 c[16];
    const u32 one = 0x3c003c00u, small = 0x14001400u + (threadIdx.x & 7);  // pairs of 1 and of about 0.001
    #pragma unroll
    for (int i = 0; i < 16; ++i) c[i] = i;
    for (int r = 0; r < rounds; ++r) {
        #pragma unroll
        for (int i = 0; i < 16; ++i) asm volatile("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(c[i]) : "r"(one), "r"(small));
    }
    u32 seen = 0;
    #pragma unroll
    for (int i = 0; i < 16; ++i) seen ^= c[i];
    if (seen == 0x12345u) out[0] = seen;
}

// exp2, the instruction behind every exponential.
extern "C" __global__ void exponential(float* out, int rounds) {
    float c[8];
    #pragma unroll
    for (int i = 0; i < 8; ++i) c[i] = -0.01f * (threadIdx.x + i);
    for (int r = 0; r < rounds; ++r) {
        #pragma unroll
        for (int i = 0; i < 8; ++i) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(c[i]));
    }
    float sum = 0;
    #pragma unroll
    for (int i = 0; i < 8; ++i) sum += c[i];
    if (sum == -1.0f) out[0] = sum;
}

// Reads a buffer ``times`` times, bypassing L1. Large buffers measure DRAM, small ones L2.
extern "C" __global__ void read_all(const uint4* x, u32* out, long long n, int times) {
    u32 seen = 0;
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (int t = 0; t < times; ++t) {
        long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
        for (; i + 3 * stride < n; i += 4 * stride) {
            uint4 v[4];
            #pragma unroll
            for (int j = 0; j < 4; ++j)
                asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                    : "=r"(v[j].x), "=r"(v[j].y), "=r"(v[j].z), "=r"(v[j].w) : "l"(x + i + j * stride));
            #pragma unroll
            for (int j = 0; j < 4; ++j) seen ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
        }
        for (; i < n; i += stride) {
            uint4 v;
            asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(x + i));
            seen ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    }
    if (seen == 0x12345u) out[0] = seen;
}

// One thread follows a chain of addresses: each load depends on the previous one.
extern "C" __global__ void chase(const u32* next, u32* out, int steps) {
    u32 at = 0;
    for (int i = 0; i < steps; ++i) asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(at) : "l"(next + at));
    out[0] = at;
}

// An empty kernel, to measure launch overhead and to mark cases in a profile.
extern "C" __global__ void nothing(int unused) {}
