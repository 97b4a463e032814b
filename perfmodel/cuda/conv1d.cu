// Causal depthwise convolution of u (B, N, D) with a filter (D, K) and a bias (D): out[n] = bias + sum f[k] u[n-K+1+k].
//
// A thread computes VEC neighbouring channels over a strip of positions, with the last K - 1 inputs in registers. Every
// input is read once, except the K - 1 rows above each strip, which are usually in cache because a neighbouring strip
// reads them. The filter stays in registers as floats. RUN rows are loaded before the first one is used. Short strips
// that load all rows at once are fastest, because concurrent reads and writes are then close together in memory.
//
// Macros, set at compile time: K. RUN (rows loaded at once). STRIP (rows per strip, a multiple of RUN). THREADS (per
// block). TALL (strips per block, along the positions).

#ifndef TALL
#define TALL 1
#endif

// Computes one output per channel and shifts the window by one input. There is no condition, so in an unrolled run the
// shift renames registers instead of copying them.
__device__ __forceinline__ vec convolved(const vec& next, float (&past)[K > 1 ? K - 1 : 1][VEC], const float (&f)[K][VEC],
                                         const float (&b)[VEC]) {
    float y[VEC];
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
        float x = to_float(next.e[v]);
        float sum = fmaf(f[K - 1][v], x, b[v]);
#pragma unroll
        for (int k = 0; k < K - 1; ++k) sum = fmaf(f[k][v], past[k][v], sum);
#pragma unroll
        for (int j = 0; j + 1 < K - 1; ++j) past[j][v] = past[j + 1][v];
        if (K > 1) past[K > 1 ? K - 2 : 0][v] = x;
        y[v] = sum;
    }
    return packed(y);
}

// The taps of VEC channels are contiguous: K vectors.
__device__ __forceinline__ void read_taps(const element* __restrict__ filter, const element* __restrict__ bias, float (&f)[K][VEC],
                                          float (&b)[VEC], int d) {
    vec taps[K], offset = load(bias + d);
#pragma unroll
    for (int k = 0; k < K; ++k) taps[k] = load(filter + (size_t)d * K + k * VEC);
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
        b[v] = to_float(offset.e[v]);
#pragma unroll
        for (int k = 0; k < K; ++k) f[k][v] = to_float(taps[(v * K + k) / VEC].e[(v * K + k) % VEC]);
    }
}

// Computes a strip of outputs. ``x`` is row 0 of the input for these channels, ``ahead`` the number of zero rows before
// it.
__device__ __forceinline__ void strip_forward(const element* __restrict__ x, int ahead, const element* __restrict__ filter,
                                              const element* __restrict__ bias, element* __restrict__ out, int N, int D, int d) {
    int first = (blockIdx.y * TALL + threadIdx.x / (THREADS / TALL)) * STRIP, last = min(first + STRIP, N), n = first;
    // Load the rows before the taps are read.
    vec before[K > 1 ? K - 1 : 1], next[RUN];
#pragma unroll
    for (int j = 0; j < K - 1; ++j) {
        int row = first - (K - 1) + j;
        before[j] = {};
        if (row + ahead >= 0 && first < N) before[j] = load(x + (long long)row * D);
    }
    bool whole = n + RUN <= last;
    if (whole) {
#pragma unroll
        for (int r = 0; r < RUN; ++r) next[r] = load(x + (size_t)(n + r) * D);
    }
    float f[K][VEC], b[VEC];
    read_taps(filter, bias, f, b, d);
    float past[K > 1 ? K - 1 : 1][VEC];  // past[j] is the input at n - K + 1 + j
#pragma unroll
    for (int j = 0; j < K - 1; ++j)
#pragma unroll
        for (int v = 0; v < VEC; ++v) past[j][v] = to_float(before[j].e[v]);

    while (whole) {
#pragma unroll
        for (int r = 0; r < RUN; ++r) store(out + (size_t)(n + r) * D, convolved(next[r], past, f, b));
        n += RUN;
        if (RUN == STRIP) break;
        whole = n + RUN <= last;
        if (whole) {
#pragma unroll
            for (int r = 0; r < RUN; ++r) next[r] = load(x + (size_t)(n + r) * D);
        }
    }
    for (; n < last; ++n) store(out + (size_t)n * D, convolved(load(x + (size_t)n * D), past, f, b));
}

extern "C" __global__ void __launch_bounds__(THREADS)
conv1d_forward(const element* __restrict__ u, const element* __restrict__ filter, const element* __restrict__ bias,
               element* __restrict__ out, int N, int D) {
    int d = (blockIdx.x * (THREADS / TALL) + threadIdx.x % (THREADS / TALL)) * VEC;
    if (d >= D) return;
    size_t base = (size_t)blockIdx.z * N * D + d;
    strip_forward(u + base, 0, filter, bias, out + base, N, D, d);
}

// The gradient of the input is dout convolved with the reversed filter. Those of the filter and the bias are sums of
// dout u and of dout over all positions. One pass reads u and dout once: a thread keeps K - 1 later rows of dout in
// registers, accumulates K + 1 sums per channel, and writes them to ``partial`` (strips, K + 1, D) for the kernel
// below.
//
// Computes the gradient of one input, accumulates the gradients of filter and bias, and shifts the window of dout.
__device__ __forceinline__ vec gradients(const vec& x, const vec& g, float (&ahead)[K][VEC], const float (&f)[K][VEC],
                                         float (&df)[K][VEC], float (&db)[VEC]) {
    float y[VEC];
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
        ahead[K - 1][v] = to_float(g.e[v]);
        float in = to_float(x.e[v]), sum = 0.0f;
#pragma unroll
        for (int j = 0; j < K; ++j) {
            sum = fmaf(f[K - 1 - j][v], ahead[j][v], sum);
            df[K - 1 - j][v] = fmaf(in, ahead[j][v], df[K - 1 - j][v]);
        }
        db[v] += ahead[0][v];
#pragma unroll
        for (int j = 0; j + 1 < K; ++j) ahead[j][v] = ahead[j + 1][v];
        y[v] = sum;
    }
    return packed(y);
}

extern "C" __global__ void __launch_bounds__(THREADS)
conv1d_backward(const element* __restrict__ u, const element* __restrict__ dout, const element* __restrict__ filter,
                element* __restrict__ du, float* __restrict__ partial, int N, int D) {
    int d = (blockIdx.x * THREADS + threadIdx.x) * VEC;
    if (d >= D) return;
    int first = blockIdx.y * STRIP;
    int last = min(first + STRIP, N);
    size_t base = (size_t)blockIdx.z * N * D + d;

    float f[K][VEC], df[K][VEC], db[VEC];
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
        db[v] = 0.0f;
#pragma unroll
        for (int k = 0; k < K; ++k) {
            f[k][v] = to_float(filter[(size_t)(d + v) * K + k]);
            df[k][v] = 0.0f;
        }
    }

    // ahead[j] is dout at n + j. Input n contributes to outputs n ... n + K - 1, to output n + j through tap K - 1 - j.
    float ahead[K][VEC];
#pragma unroll
    for (int j = 0; j < K - 1; ++j) {
        vec g = {};
        if (first + j < N) g = load(dout + base + (size_t)(first + j) * D);
#pragma unroll
        for (int v = 0; v < VEC; ++v) ahead[j][v] = to_float(g.e[v]);
    }

    int n = first;
    for (; n + RUN <= last && n + RUN + K - 1 <= N; n += RUN) {
        vec x[RUN], g[RUN];
#pragma unroll
        for (int r = 0; r < RUN; ++r) {
            x[r] = load(u + base + (size_t)(n + r) * D);
            g[r] = load(dout + base + (size_t)(n + r + K - 1) * D);
        }
#pragma unroll
        for (int r = 0; r < RUN; ++r) store(du + base + (size_t)(n + r) * D, gradients(x[r], g[r], ahead, f, df, db));
    }
    for (; n < last; ++n) {
        vec x = load(u + base + (size_t)n * D), g = {};
        if (n + K - 1 < N) g = load(dout + base + (size_t)(n + K - 1) * D);
        store(du + base + (size_t)n * D, gradients(x, g, ahead, f, df, db));
    }

    size_t strip = (size_t)blockIdx.z * gridDim.y + blockIdx.y;
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
#pragma unroll
        for (int k = 0; k < K; ++k) partial[(strip * (K + 1) + k) * D + d + v] = df[k][v];
        partial[(strip * (K + 1) + K) * D + d + v] = db[v];
    }
}

// Sums the partial sums of the strips. A block processes 32 channels of one tap, and its warps take the strips in turn.
extern "C" __global__ void __launch_bounds__(256)
conv1d_gather(const float* __restrict__ partial, element* __restrict__ dfilter, element* __restrict__ dbias, int strips, int D) {
    __shared__ float sums[8][33];
    int d = blockIdx.x * 32 + threadIdx.x % 32, k = blockIdx.y, warp = threadIdx.x / 32;
    float sum = 0.0f;
    if (d < D)
        for (int s = warp; s < strips; s += 8) sum += partial[((size_t)s * (K + 1) + k) * D + d];
    sums[warp][threadIdx.x % 32] = sum;
    __syncthreads();
    if (warp == 0 && d < D) {
        for (int w = 1; w < 8; ++w) sum += sums[w][threadIdx.x];
        if (k < K) dfilter[(size_t)d * K + k] = from_float(sum);
        else dbias[d] = from_float(sum);
    }
}

// The unfused form: one kernel writes the padded signal, a second reads and convolves it.
extern "C" __global__ void pad(const element* __restrict__ u, element* __restrict__ padded, int N, int D) {
    int rows = N + 2 * (K - 1);
    int d = (blockIdx.x * THREADS + threadIdx.x) * VEC;
    if (d >= D) return;
    for (int p = blockIdx.y; p < rows; p += gridDim.y) {
        int n = p - (K - 1);
        vec x = {};
        if (n >= 0 && n < N) x = load(u + ((size_t)blockIdx.z * N + n) * D + d);
        store(padded + ((size_t)blockIdx.z * rows + p) * D + d, x);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
convolve_padded(const element* __restrict__ padded, const element* __restrict__ filter, const element* __restrict__ bias,
                element* __restrict__ out, int N, int D) {
    int d = (blockIdx.x * (THREADS / TALL) + threadIdx.x % (THREADS / TALL)) * VEC;
    if (d >= D) return;
    const element* x = padded + ((size_t)blockIdx.z * (N + 2 * (K - 1)) + K - 1) * D + d;
    strip_forward(x, K - 1, filter, bias, out + (size_t)blockIdx.z * N * D + d, N, D, d);
}

// The same for filters that do not fit in registers.
extern "C" __global__ void convolve_padded_long(const element* __restrict__ padded, const element* __restrict__ filter,
                                                const element* __restrict__ bias, element* __restrict__ out, int N, int D) {
    int rows = N + 2 * (K - 1);
    int d = (blockIdx.x * THREADS + threadIdx.x) * VEC;
    if (d >= D) return;
    for (int n = blockIdx.y; n < N; n += gridDim.y) {
        float y[VEC];
#pragma unroll
        for (int v = 0; v < VEC; ++v) y[v] = to_float(bias[d + v]);
        for (int k = 0; k < K; ++k) {
            vec x = load(padded + ((size_t)blockIdx.z * rows + n + k) * D + d);
#pragma unroll
            for (int v = 0; v < VEC; ++v) y[v] = fmaf(to_float(filter[(size_t)(d + v) * K + k]), to_float(x.e[v]), y[v]);
        }
        store(out + ((size_t)blockIdx.z * N + n) * D + d, packed(y));
    }
}

// For filters that do not fit in registers: reads the window through the cache, tap by tap.
extern "C" __global__ void conv1d_long_forward(const element* __restrict__ u, const element* __restrict__ filter,
                                               const element* __restrict__ bias, element* __restrict__ out, int N, int D) {
    int d = (blockIdx.x * THREADS + threadIdx.x) * VEC;
    if (d >= D) return;
    size_t base = (size_t)blockIdx.z * N * D + d;
    for (int n = blockIdx.y; n < N; n += gridDim.y) {
        float sum[VEC];
#pragma unroll
        for (int v = 0; v < VEC; ++v) sum[v] = to_float(bias[d + v]);
        for (int k = max(0, K - 1 - n); k < K; ++k) {
            vec x = load(u + base + (size_t)(n - K + 1 + k) * D);
#pragma unroll
            for (int v = 0; v < VEC; ++v) sum[v] = fmaf(to_float(filter[(size_t)(d + v) * K + k]), to_float(x.e[v]), sum[v]);
        }
        float y[VEC];
#pragma unroll
        for (int v = 0; v < VEC; ++v) y[v] = sum[v];
        store(out + base + (size_t)n * D, packed(y));
    }
}

extern "C" __global__ void conv1d_long_input(const element* __restrict__ dout, const element* __restrict__ filter,
                                             element* __restrict__ du, int N, int D) {
    int d = (blockIdx.x * THREADS + threadIdx.x) * VEC;
    if (d >= D) return;
    size_t base = (size_t)blockIdx.z * N * D + d;
    for (int n = blockIdx.y; n < N; n += gridDim.y) {
        float sum[VEC] = {};
        for (int j = 0; j < min(K, N - n); ++j) {
            vec g = load(dout + base + (size_t)(n + j) * D);
#pragma unroll
            for (int v = 0; v < VEC; ++v)
                sum[v] = fmaf(to_float(filter[(size_t)(d + v) * K + K - 1 - j]), to_float(g.e[v]), sum[v]);
        }
        float y[VEC];
#pragma unroll
        for (int v = 0; v < VEC; ++v) y[v] = sum[v];
        store(du + base + (size_t)n * D, packed(y));
    }
}

// Sums one tap (or the bias, for k = K) over one strip at a time, into ``partial`` as above.
extern "C" __global__ void conv1d_long_filter(const element* __restrict__ u, const element* __restrict__ dout,
                                              float* __restrict__ partial, int N, int D, int strips) {
    int d = blockIdx.x * THREADS + threadIdx.x, k = blockIdx.y;
    if (d >= D) return;
    for (int s = blockIdx.z; s < strips; s += gridDim.z) {
        int perBatch = (N + STRIP - 1) / STRIP, b = s / perBatch, first = s % perBatch * STRIP;
        size_t base = (size_t)b * N * D + d;
        float sum = 0.0f;
        for (int n = first; n < min(first + STRIP, N); ++n) {
            float g = to_float(dout[base + (size_t)n * D]);
            int at = n - K + 1 + k;
            if (k == K) sum += g;
            else if (at >= 0) sum = fmaf(g, to_float(u[base + (size_t)at * D]), sum);
        }
        partial[((size_t)s * (K + 1) + k) * D + d] = sum;
    }
}
