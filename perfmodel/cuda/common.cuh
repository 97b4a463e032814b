// Element types, vectors and reductions shared by all kernels here. Conversions use inline assembly, so no header is
// needed.
//
// Macros, set at compile time: T_FP16, T_BF16 or T_FP32 (element type), VEC (elements per memory access), and those
// named in each source file.

#if defined(T_FP32)
typedef float element;
#else
typedef unsigned short element;
#endif

__device__ __forceinline__ float to_float(element e) {
#if defined(T_FP32)
    return e;
#elif defined(T_FP16)
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(e));
    return f;
#else
    float f;  // the compiler would hoist a plain shift to the load, which costs a register
    asm("mov.b32 %0, {%1, %2};" : "=f"(f) : "h"((unsigned short)0), "h"(e));
    return f;
#endif
}

__device__ __forceinline__ element from_float(float f) {
#if defined(T_FP32)
    return f;
#elif defined(T_FP16)
    element e;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(e) : "f"(f));
    return e;
#elif __CUDA_ARCH__ >= 800
    element e;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(e) : "f"(f));
    return e;
#else
    unsigned bits = __float_as_uint(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
#endif
}

// Converts two values, in one instruction if the device has it.
__device__ __forceinline__ void from_floats(float a, float b, element* out) {
#if defined(T_FP16) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(*(unsigned*)out) : "f"(b), "f"(a));
#elif defined(T_BF16) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(*(unsigned*)out) : "f"(b), "f"(a));
#else
    out[0] = from_float(a);
    out[1] = from_float(b);
#endif
}

// VEC elements, moved by one access of up to 16 bytes.
struct __align__(VEC * sizeof(element)) vec {
    element e[VEC];
};

// Plain accesses. On an H200 every cache hint (streaming, evict-first, no allocation) was slower.
__device__ __forceinline__ vec load(const element* p) {
    vec v;
    constexpr int bytes = VEC * sizeof(element);
    if constexpr (bytes == 16) {
        *(uint4*)&v = *(const uint4*)p;
    } else if constexpr (bytes == 8) {
        *(uint2*)&v = *(const uint2*)p;
    } else if constexpr (bytes == 4) {
        *(unsigned*)&v = *(const unsigned*)p;
    } else {
        v = *(const vec*)p;
    }
    return v;
}

__device__ __forceinline__ void store(element* p, const vec& v) {
    constexpr int bytes = VEC * sizeof(element);
    if constexpr (bytes == 16) {
        *(uint4*)p = *(const uint4*)&v;
    } else if constexpr (bytes == 8) {
        *(uint2*)p = *(const uint2*)&v;
    } else if constexpr (bytes == 4) {
        *(unsigned*)p = *(const unsigned*)&v;
    } else {
        *(vec*)p = v;
    }
}

// Converts VEC floats to a vector of elements.
__device__ __forceinline__ vec packed(const float* f) {
    vec v;
    if constexpr (VEC == 1) {
        v.e[0] = from_float(f[0]);
    } else {
#pragma unroll
        for (int i = 0; i < VEC; i += 2) from_floats(f[i], f[i + 1], v.e + i);
    }
    return v;
}

struct sum_of {
    static __device__ __forceinline__ float of(float a, float b) { return a + b; }
    static __device__ __forceinline__ float none() { return 0.0f; }
};
struct max_of {
    static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
    static __device__ __forceinline__ float none() { return __int_as_float(0xff800000); }
};

// Reduces a value over WIDTH neighbouring threads; each thread gets the result. Up to a warp by shuffles, beyond that
// through one word of shared memory per warp. There is one barrier, so the next call must use another buffer or follow a
// barrier.
template <class Op, int WIDTH>
__device__ __forceinline__ float reduce(float x, float* scratch) {
#pragma unroll
    for (int offset = (WIDTH < 32 ? WIDTH : 32) / 2; offset > 0; offset /= 2) x = Op::of(x, __shfl_xor_sync(~0u, x, offset));
    if constexpr (WIDTH > 32) {
        constexpr int warps = WIDTH / 32;
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        int group = warp / warps * warps;
        if (lane == 0) scratch[warp] = x;
        __syncthreads();
        x = lane < warps ? scratch[group + lane] : Op::none();
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) x = Op::of(x, __shfl_xor_sync(~0u, x, offset));
    }
    return x;
}
