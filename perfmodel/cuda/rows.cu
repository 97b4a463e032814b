// Softmax and normalisation of rows. TPR threads share a row and have VPT vectors each, so every row is read and
// written once. A block processes GROUPS rows at a time, in one or two turns. The hardware scheduler then assigns rows
// as multiprocessors become free, and concurrent accesses fall into the same DRAM pages. On an H200 this moves 4 to 8 %
// more than persistent blocks that loop over all rows. All threads of a row exchange their values in one step, so a row
// needs one barrier.
//
// STAGES = 0 loads a row from memory into registers. Otherwise rows pass through shared memory, and the rows of the
// next STAGES - 1 turns are loaded asynchronously while one is processed. Each thread loads and uses its own vectors,
// so a load needs no barrier, only a wait of its thread. Rows that exceed the registers of a block are shared by
// CLUSTER neighbouring blocks through distributed shared memory.
//
// Macros, set at compile time: TPR (threads per row in a block, a power of two up to 1024). VPT (vectors per thread).
// STAGES. THREADS (threads per block, at least TPR). CLUSTER (blocks per row; above 1, THREADS equals TPR and sm_90 or
// newer is required). HELD (whether a row to be normalised stays in registers between its two uses or is read from
// shared memory again). FULL (whether every thread has all of its vectors). MASK (whether a mask is added). FAMILY (the
// kernels to compile: 1 softmax, 2 normalisation, 3 gradients of normalisation).

#define GROUPS (THREADS / TPR)
#define ROW (TPR * CLUSTER)

// Index of a thread within its row, and the first element of its vector i.
#define LANE (blockIdx.x % CLUSTER * TPR + threadIdx.x % TPR)
#define AT(i) (((i) * ROW + LANE) * VEC)
#define HAS(i) (FULL || AT(i) < cols)

#define EACH(i, v) \
    _Pragma("unroll") for (int i = 0; i < VPT; ++i) if (HAS(i)) _Pragma("unroll") for (int v = 0; v < VEC; ++v)

extern __shared__ __align__(16) unsigned char memory[];

struct row {
    vec v[VPT];
};

// Order of the staging buffer: input * STAGES + stage, then vector, then thread.
__device__ __forceinline__ vec* slot(int input, int stage, int i) {
    return (vec*)memory + ((input * STAGES + stage) * VPT + i) * THREADS + threadIdx.x;
}

__device__ __forceinline__ void fetch(int input, int stage, const element* p, int cols) {
#pragma unroll
    for (int i = 0; i < VPT; ++i) {
        if (HAS(i)) {
            [[maybe_unused]] constexpr int bytes = VEC * sizeof(element);
#if __CUDA_ARCH__ >= 800
            if constexpr (bytes >= 4) {
                unsigned to = (unsigned)__cvta_generic_to_shared(slot(input, stage, i));
                if constexpr (bytes == 16)
                    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(p + AT(i)));
                else
                    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(p + AT(i)), "n"(bytes));
                continue;
            }
#endif
            *slot(input, stage, i) = load(p + AT(i));
        }
    }
}

// ``sent`` commits the loads of one turn. ``arrived`` waits until at most the loads of the last LATER turns are
// pending.
__device__ __forceinline__ void sent() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}

template <int LATER>
__device__ __forceinline__ void arrived() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(LATER > 0 ? LATER : 0) : "memory");
#endif
}

// The vectors of a weight that a thread uses for all of its rows. They stay packed, because as floats they would occupy
// twice the registers. The empty asm statement prevents the compiler from converting them before the loop.
struct weight : row {
    __device__ __forceinline__ void read(const element* p, int cols) {
#pragma unroll
        for (int i = 0; i < VPT; ++i)
            if (HAS(i)) v[i] = load(p + AT(i));
    }
    __device__ __forceinline__ vec at(int i) {
        constexpr int words = VEC * sizeof(element) / 4;
        unsigned* word = (unsigned*)&v[i];
#pragma unroll
        for (int w = 0; w < words; ++w) asm volatile("" : "+r"(word[w]));
        return v[i];
    }
};

// Loops over the rows of this thread's group. FETCH(stage, n) starts loading row n. The body runs with ``n`` and
// ``stage`` once the row has arrived; ``n`` may be beyond the last row, because every thread of a block takes part in
// every turn. A block processes ``turns`` consecutive turns and ends. If ``turns`` is 0, the blocks are persistent and
// loop over all rows.
#define FOR_ROWS(FETCH)                                                                                   \
    const long long block = blockIdx.x / CLUSTER;                                                         \
    const long long step = turns ? GROUPS : (long long)(gridDim.x / CLUSTER) * GROUPS;                    \
    const long long mine = block * (turns ? turns : 1) * GROUPS + threadIdx.x / TPR;                      \
    const long long end = turns ? min(rows, (block + 1) * turns * GROUPS) : rows;                         \
    _Pragma("unroll") for (int s = 0; s < STAGES - 1; ++s) {                                              \
        if (mine + s * step < end) { FETCH(s, mine + s * step); }                                         \
        sent();                                                                                           \
    }                                                                                                     \
    int stage = 0;                                                                                        \
    for (long long n = mine; n - threadIdx.x / TPR < end; n += step, stage = stage + 1 >= STAGES ? 0 : stage + 1)

#define NEXT_ROW(FETCH)                                                                                   \
    if constexpr (STAGES > 0) {                                                                           \
        int ahead = stage == 0 ? STAGES - 1 : stage - 1;                                                  \
        if (n + (STAGES - 1) * step < end) { FETCH(ahead, n + (STAGES - 1) * step); }                     \
        sent();                                                                                           \
        arrived<STAGES - 1>();                                                                            \
    }

// Vector i of an input row, from the staging buffer or from memory.
__device__ __forceinline__ vec got(int input, int stage, int i, const element* p) {
    return STAGES ? *slot(input, stage, i) : load(p + AT(i));
}

// --- exchange between the threads of a row ---------------------------------------------------------------------------

struct __align__(8) pair {
    float a, b;
};

#define LANES (TPR < 32 ? TPR : 32)
#define WARPS (ROW > 32 ? ROW / 32 : 1)
#define PLACES ((THREADS + 31) / 32 * CLUSTER)
static_assert(WARPS <= 32 && (CLUSTER == 1 || (THREADS == TPR && TPR >= 32)), "a row has up to 32 warps");

#if CLUSTER > 2
#define BLOCKS __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 2)  // two blocks per multiprocessor
#elif CLUSTER > 1
#define BLOCKS __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS)
#else
#define BLOCKS __launch_bounds__(THREADS)
#endif

// Writes the pair of a warp for all warps of its row and arrives at the barrier. ``listen`` waits for all of them.
__device__ __forceinline__ void tell(pair* here, pair own) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#if CLUSTER > 1
    if (lane < CLUSTER) {
        unsigned there, local = (unsigned)__cvta_generic_to_shared(here + blockIdx.x % CLUSTER * (TPR / 32) + warp);
        asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(local), "r"(lane));
        asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(there), "f"(own.a), "f"(own.b) : "memory");
    }
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#else
    if (lane == 0) here[warp] = own;
#endif
}

__device__ __forceinline__ void listen() {
#if CLUSTER > 1
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
}

// Waits until every block of the cluster has started, before the first remote write.
__device__ __forceinline__ void gather() {
#if CLUSTER > 1
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    listen();
#endif
}

// Returns the first pair of the thread's row.
__device__ __forceinline__ const pair* of_row(const pair* here) {
    return here + (CLUSTER > 1 ? 0 : threadIdx.x / 32 / WARPS * WARPS);
}

// Writes and waits. Two buffers alternate between turns, so that one barrier per turn is enough.
struct crossing {
    pair (*places)[PLACES];
    int turn = 0;
    __device__ __forceinline__ const pair* of(pair own) {
        pair* here = places[turn];
        turn ^= 1;
        tell(here, own);
        listen();
        return of_row(here);
    }
};

#define CROSSING                         \
    __shared__ pair crossed[2][PLACES];  \
    crossing cross = {crossed};          \
    gather();

template <class Op, int OVER>
__device__ __forceinline__ float within(float x) {
#pragma unroll
    for (int offset = OVER / 2; offset > 0; offset /= 2) x = Op::of(x, __shfl_xor_sync(~0u, x, offset));
    return x;
}

__device__ __forceinline__ pair within_warp(pair x) { return {within<sum_of, LANES>(x.a), within<sum_of, LANES>(x.b)}; }

// Sums the pairs of a row's warps.
__device__ __forceinline__ pair over_warps(const pair* each) {
    pair x = each[threadIdx.x % WARPS];
    return {within<sum_of, WARPS>(x.a), within<sum_of, WARPS>(x.b)};
}

// Reduces two sums over the threads of a row.
__device__ __forceinline__ pair sums(pair x, crossing& cross) {
    x = within_warp(x);
    if constexpr (WARPS > 1) x = over_warps(cross.of(x));
    return x;
}

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#define LOG2E 1.4426950408889634f

#if FAMILY == 1
// --- softmax ---------------------------------------------------------------------------------------------------------

// y = softmax(scale x + mask) along rows, with scale > 0. With MASK, the mask row is row % mask_rows. A row that is
// entirely -inf becomes zeros. Every warp computes powers relative to its own maximum, and the warps exchange maxima and
// sums together. The scale needs no instruction: it is part of the multiply-add with the mask, or of the base of the
// powers.
extern "C" __global__ void BLOCKS
softmax_forward(const element* __restrict__ x, const element* __restrict__ mask, element* __restrict__ y, long long rows,
                int cols, int turns, int mask_rows, float factor) {
    CROSSING
    const float base = MASK ? LOG2E : factor * LOG2E;
#define FETCH(s, n) fetch(0, s, x + (n) * cols, cols)
    FOR_ROWS(FETCH) {
        NEXT_ROW(FETCH)
        bool here = n < end;
        const element* hidden = MASK && here ? mask + n % mask_rows * cols : mask;
        float f[VPT * VEC], top = max_of::none();
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
                    vec in = got(0, stage, i, x + n * cols), plus;
                    if (MASK) plus = load(hidden + AT(i));
#pragma unroll
                    for (int v = 0; v < VEC; ++v) {
                        float e = to_float(in.e[v]);
                        f[i * VEC + v] = MASK ? fmaf(e, factor, to_float(plus.e[v])) : e;
                        top = fmaxf(top, f[i * VEC + v]);
                    }
                }
            }
        }
        top = within<max_of, LANES>(top) * base;
        float shift = top == max_of::none() ? 0.0f : top, sum = 0.0f;
        if (here) {
            EACH(i, v) {
                float e = power_of_two(fmaf(f[i * VEC + v], base, -shift));
                f[i * VEC + v] = e;
                sum += e;
            }
        }
        sum = within<sum_of, LANES>(sum);
        float scale = 1.0f;
        if constexpr (WARPS > 1) {
            const pair* each = cross.of({top, sum});
            pair one = each[threadIdx.x % WARPS];
            float highest = within<max_of, WARPS>(one.a);
            float whole = highest == max_of::none() ? 0.0f : highest;
            sum = within<sum_of, WARPS>(one.b * power_of_two(one.a - whole));
            scale = power_of_two(top - whole);
        }
        scale = sum > 0.0f ? __fdividef(scale, sum) : sum == 0.0f ? 0.0f : sum;
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
#pragma unroll
                    for (int v = 0; v < VEC; ++v) f[i * VEC + v] *= scale;
                    store(y + n * cols + AT(i), packed(f + i * VEC));
                }
            }
        }
    }
#undef FETCH
}

// For rows that exceed the registers: one pass for the running maximum and sum, and a second pass that reads the row
// again.
extern "C" __global__ void __launch_bounds__(THREADS)
softmax_long_forward(const element* __restrict__ x, const element* __restrict__ mask, element* __restrict__ y,
                     long long rows, int cols, int mask_rows, float factor) {
    __shared__ float scratch[2][32];
    for (long long n = blockIdx.x; n < rows; n += gridDim.x) {
        const element* p = x + n * cols;
        const element* m = MASK ? mask + n % mask_rows * cols : nullptr;
        float top = max_of::none(), sum = 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load(p + at), plus;
            if (MASK) plus = load(m + at);
            float f[VEC], high = top;
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                f[v] = fmaf(to_float(in.e[v]), factor, MASK ? to_float(plus.e[v]) : 0.0f);
                high = fmaxf(high, f[v]);
            }
            if (high > max_of::none()) {
                sum *= exp2f((top - high) * 1.4426950408889634f);
#pragma unroll
                for (int v = 0; v < VEC; ++v) sum += exp2f((f[v] - high) * 1.4426950408889634f);
                top = high;
            }
        }
        float all = reduce<max_of, THREADS>(top, scratch[0]);
        float part = top > max_of::none() ? sum * exp2f((top - all) * 1.4426950408889634f) : 0.0f;
        float total = reduce<sum_of, THREADS>(part, scratch[1]);
        float scale = total > 0.0f ? 1.0f / total : 0.0f, shift = all > max_of::none() ? all : 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load(p + at), plus;
            if (MASK) plus = load(m + at);
            float out[VEC];
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                float e = fmaf(to_float(in.e[v]), factor, MASK ? to_float(plus.e[v]) : 0.0f);
                out[v] = exp2f((e - shift) * 1.4426950408889634f) * scale;
            }
            store(y + n * cols + at, packed(out));
        }
        __syncthreads();
    }
}

// dx = scale y (dy - sum of y dy).
extern "C" __global__ void BLOCKS
softmax_backward(const element* __restrict__ y, const element* __restrict__ dy, element* __restrict__ dx, long long rows,
                 int cols, int turns, float factor) {
    CROSSING
#define FETCH(s, n) fetch(0, s, y + (n) * cols, cols), fetch(1, s, dy + (n) * cols, cols)
    FOR_ROWS(FETCH) {
        NEXT_ROW(FETCH)
        bool here = n < end;
        float sum = 0.0f;
        row a, g;
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
                    a.v[i] = got(0, stage, i, y + n * cols);
                    g.v[i] = got(1, stage, i, dy + n * cols);
#pragma unroll
                    for (int v = 0; v < VEC; ++v) sum = fmaf(to_float(a.v[i].e[v]), to_float(g.v[i].e[v]), sum);
                }
            }
        }
        sum = sums({sum, 0.0f}, cross).a * factor;
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
                    float out[VEC];
#pragma unroll
                    for (int v = 0; v < VEC; ++v) out[v] = to_float(a.v[i].e[v]) * fmaf(to_float(g.v[i].e[v]), factor, -sum);
                    store(dx + n * cols + AT(i), packed(out));
                }
            }
        }
    }
#undef FETCH
}

extern "C" __global__ void __launch_bounds__(THREADS)
softmax_long_backward(const element* __restrict__ y, const element* __restrict__ dy, element* __restrict__ dx,
                      long long rows, int cols, float factor) {
    __shared__ float scratch[32];
    for (long long n = blockIdx.x; n < rows; n += gridDim.x) {
        float sum = 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec a = load(y + n * cols + at), g = load(dy + n * cols + at);
#pragma unroll
            for (int v = 0; v < VEC; ++v) sum = fmaf(to_float(a.e[v]), to_float(g.e[v]), sum);
        }
        sum = reduce<sum_of, THREADS>(sum, scratch) * factor;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec a = load(y + n * cols + at), g = load(dy + n * cols + at);
            float out[VEC];
#pragma unroll
            for (int v = 0; v < VEC; ++v) out[v] = to_float(a.e[v]) * fmaf(to_float(g.e[v]), factor, -sum);
            store(dx + n * cols + at, packed(out));
        }
        __syncthreads();
    }
}

#endif

#if FAMILY == 2
// --- normalisation ---------------------------------------------------------------------------------------------------

// LayerNorm: both sums in one pass, of x minus the first element of the row. Otherwise the variance, mean of squares
// minus square of mean, loses digits for a row with a large offset. If a row has several warps, each reads that element
// itself one turn ahead, which saves a barrier. RMSNorm: no mean, no beta. Statistics are stored for the backward pass
// if the pointers are not null.
template <bool RMS>
__device__ __forceinline__ void normalise(const element* __restrict__ x, const element* __restrict__ gamma,
                                          const element* __restrict__ beta, element* __restrict__ y,
                                          float* __restrict__ mean_out, float* __restrict__ rstd_out, long long rows,
                                          int cols, int turns, float epsilon) {
    CROSSING
    weight scale, shift;
    scale.read(gamma, cols);
    if (!RMS) shift.read(beta, cols);
    float over = 1.0f / cols;
    element next = {};
#define FETCH(s, n) fetch(0, s, x + (n) * cols, cols)
    FOR_ROWS(FETCH) {
        bool here = n < end;
        float origin = 0.0f, sum = 0.0f, squares = 0.0f;
        if (!RMS && WARPS > 1) {
            if (n == mine && here) next = x[n * cols];
            origin = to_float(next);
            if (n + step < end) next = x[(n + step) * cols];
        }
        NEXT_ROW(FETCH)
        row in;
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i)
                if (HAS(i)) in.v[i] = got(0, stage, i, x + n * cols);
        }
        if (!RMS && WARPS <= 1) {
            float own = here ? to_float(in.v[0].e[0]) : 0.0f;
            origin = __shfl_sync(~0u, own, threadIdx.x % 32 / LANES * LANES);
        }
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
#pragma unroll
                    for (int v = 0; v < VEC; ++v) {
                        float e = to_float(in.v[i].e[v]) - origin;
                        if (!RMS) sum += e;
                        squares = fmaf(e, e, squares);
                    }
                }
            }
        }
        pair both = sums({sum, squares}, cross);
        float mean = both.a * over;
        float rstd = rsqrtf(fmaxf(both.b * over - mean * mean, 0.0f) + epsilon);
        if (here) {
            float middle = mean + origin;
            if (LANE == 0) {
                if (!RMS && mean_out) mean_out[n] = middle;
                if (rstd_out) rstd_out[n] = rstd;
            }
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
                    float out[VEC];
                    if (!HELD) in.v[i] = *slot(0, stage, i);
                    vec by = scale.at(i), plus;
                    if (!RMS) plus = shift.at(i);
#pragma unroll
                    for (int v = 0; v < VEC; ++v) {
                        float e = (to_float(in.v[i].e[v]) - middle) * rstd;
                        out[v] = RMS ? e * to_float(by.e[v]) : fmaf(e, to_float(by.e[v]), to_float(plus.e[v]));
                    }
                    store(y + n * cols + AT(i), packed(out));
                }
            }
        }
    }
#undef FETCH
}

// For rows that exceed the registers of a block: one pass for both sums, and a second pass that reads the row again.
template <bool RMS>
__device__ __forceinline__ void normalise_long(const element* __restrict__ x, const element* __restrict__ gamma,
                                               const element* __restrict__ beta, element* __restrict__ y,
                                               float* __restrict__ mean_out, float* __restrict__ rstd_out,
                                               long long rows, int cols, float epsilon) {
    __shared__ float scratch[2][32];
    float over = 1.0f / cols;
    for (long long n = blockIdx.x; n < rows; n += gridDim.x) {
        const element* p = x + n * cols;
        float origin = RMS ? 0.0f : to_float(p[0]), sum = 0.0f, squares = 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load(p + at);
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                float e = to_float(in.e[v]) - origin;
                sum += e;
                squares = fmaf(e, e, squares);
            }
        }
        sum = RMS ? 0.0f : reduce<sum_of, THREADS>(sum, scratch[0]);
        squares = reduce<sum_of, THREADS>(squares, scratch[1]);
        float mean = sum * over, rstd = rsqrtf(fmaxf(squares * over - mean * mean, 0.0f) + epsilon);
        float middle = mean + origin;
        if (threadIdx.x == 0) {
            if (!RMS && mean_out) mean_out[n] = middle;
            if (rstd_out) rstd_out[n] = rstd;
        }
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load(p + at), scale = load(gamma + at), shift;
            if (!RMS) shift = load(beta + at);
            float out[VEC];
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                float e = (to_float(in.e[v]) - middle) * rstd * to_float(scale.e[v]);
                out[v] = RMS ? e : e + to_float(shift.e[v]);
            }
            store(y + n * cols + at, packed(out));
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
layernorm_long_forward(const element* x, const element* gamma, const element* beta, element* y, float* mean, float* rstd,
                       long long rows, int cols, float epsilon) {
    normalise_long<false>(x, gamma, beta, y, mean, rstd, rows, cols, epsilon);
}

extern "C" __global__ void __launch_bounds__(THREADS)
rmsnorm_long_forward(const element* x, const element* gamma, element* y, float* rstd, long long rows, int cols,
                     float epsilon) {
    normalise_long<true>(x, gamma, nullptr, y, nullptr, rstd, rows, cols, epsilon);
}

extern "C" __global__ void BLOCKS
layernorm_forward(const element* x, const element* gamma, const element* beta, element* y, float* mean, float* rstd,
                  long long rows, int cols, int turns, float epsilon) {
    normalise<false>(x, gamma, beta, y, mean, rstd, rows, cols, turns, epsilon);
}

extern "C" __global__ void BLOCKS
rmsnorm_forward(const element* x, const element* gamma, element* y, float* rstd, long long rows, int cols, int turns, float epsilon) {
    normalise<true>(x, gamma, nullptr, y, nullptr, rstd, rows, cols, turns, epsilon);
}

#endif
#if FAMILY == 3

// Gradient of the input for long rows. The kernel below computes those of gamma and beta.
extern "C" __global__ void __launch_bounds__(THREADS)
layernorm_long_backward(const element* __restrict__ x, const element* __restrict__ dy, const element* __restrict__ gamma,
                        const float* __restrict__ mean, const float* __restrict__ rstd, element* __restrict__ dx,
                        long long rows, int cols) {
    __shared__ float scratch[2][32];
    float over = 1.0f / cols;
    for (long long n = blockIdx.x; n < rows; n += gridDim.x) {
        float middle = mean[n], inverse = rstd[n], a = 0.0f, b = 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load(x + n * cols + at), up = load(dy + n * cols + at), scale = load(gamma + at);
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                float g = to_float(up.e[v]) * to_float(scale.e[v]);
                a += g;
                b = fmaf(g, (to_float(in.e[v]) - middle) * inverse, b);
            }
        }
        a = reduce<sum_of, THREADS>(a, scratch[0]) * over;
        b = reduce<sum_of, THREADS>(b, scratch[1]) * over;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load(x + n * cols + at), up = load(dy + n * cols + at), scale = load(gamma + at);
            float out[VEC];
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                float xhat = (to_float(in.e[v]) - middle) * inverse;
                out[v] = (to_float(up.e[v]) * to_float(scale.e[v]) - a - xhat * b) * inverse;
            }
            store(dx + n * cols + at, packed(out));
        }
        __syncthreads();
    }
}

// VEC floats of a partial sum.
__device__ __forceinline__ void leave(float* to, const float* f) {
    if constexpr (VEC % 4 == 0) {
#pragma unroll
        for (int v = 0; v < VEC; v += 4) *(float4*)(to + v) = make_float4(f[v], f[v + 1], f[v + 2], f[v + 3]);
    } else {
#pragma unroll
        for (int v = 0; v < VEC; ++v) to[v] = f[v];
    }
}

// Sums one part of the rows for THREADS x VEC columns, into ``partial`` in the order of layernorm_backward.
extern "C" __global__ void __launch_bounds__(THREADS)
column_parts(const element* __restrict__ x, const element* __restrict__ dy, const float* __restrict__ mean,
             const float* __restrict__ rstd, float* __restrict__ partial, long long rows, int cols, int parts) {
    int at = (blockIdx.x * THREADS + threadIdx.x) * VEC, part = blockIdx.y;
    if (at >= cols) return;
    float dgamma[VEC] = {}, dbeta[VEC] = {};
    for (long long n = part; n < rows; n += parts) {
        vec in = load(x + n * cols + at), up = load(dy + n * cols + at);
#pragma unroll
        for (int v = 0; v < VEC; ++v) {
            float d = to_float(up.e[v]);
            dgamma[v] = fmaf(d, (to_float(in.e[v]) - mean[n]) * rstd[n], dgamma[v]);
            dbeta[v] += d;
        }
    }
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
        partial[(size_t)part * cols + at + v] = dgamma[v];
        partial[((size_t)parts + part) * cols + at + v] = dbeta[v];
    }
}

// dx = (g - mean of g - xhat mean of g xhat) / sigma with g = dy gamma. Each thread also accumulates dy xhat and dy of
// its columns over all rows of its group. The block writes these sums to ``partial`` (2, parts, cols) for the kernel
// below, so the blocks of this kernel are persistent. The threads of a row must exchange sums before dx is known. To
// hide this latency, a turn sums one row and finishes the previous one, which is still in shared memory (STAGES is at
// least 3). Gamma is stored after the stages.
extern "C" __global__ void BLOCKS
layernorm_backward(const element* __restrict__ x, const element* __restrict__ dy, const element* __restrict__ gamma,
                   const float* __restrict__ mean, const float* __restrict__ rstd, element* __restrict__ dx,
                   float* __restrict__ partial, long long rows, int cols) {
    __shared__ pair crossed[2][PLACES];
    gather();
    vec* scale = slot(2, 0, 0);
    float dgamma[VPT * VEC], dbeta[VPT * VEC];
#pragma unroll
    for (int i = 0; i < VPT * VEC; ++i) dgamma[i] = dbeta[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < VPT; ++i)
        if (HAS(i)) scale[i * THREADS] = load(gamma + AT(i));

    const long long step = (long long)(gridDim.x / CLUSTER) * GROUPS;
    const long long mine = (long long)(blockIdx.x / CLUSTER) * GROUPS + threadIdx.x / TPR;
#define FETCH(s, n) fetch(0, s, x + (n) * cols, cols), fetch(1, s, dy + (n) * cols, cols)
#pragma unroll
    for (int s = 0; s < STAGES - 2; ++s) {
        if (mine + s * step < rows) FETCH(s, mine + s * step);
        sent();
    }
    float over = 1.0f / cols, middle = 0.0f, inverse = 0.0f, centre = 0.0f, times = 0.0f;
    if (mine < rows) middle = mean[mine], inverse = rstd[mine];
    int stage = 0, turn = 0;
    pair all = {0.0f, 0.0f};
    for (long long n = mine; n - threadIdx.x / TPR - step < rows; n += step) {
        bool here = n < rows, before = n != mine && n - step < rows;
        float old_centre = centre, old_times = times;
        centre = middle, times = inverse;
        if (n + step < rows) middle = mean[n + step], inverse = rstd[n + step];
        int ahead = stage + STAGES - 2 >= STAGES ? stage - 2 : stage + STAGES - 2, behind = stage == 0 ? STAGES - 1 : stage - 1;
        if (n + (STAGES - 2) * step < rows) FETCH(ahead, n + (STAGES - 2) * step);
        sent();
        arrived<STAGES - 2>();

        pair own = {0.0f, 0.0f};
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
                    vec in = *slot(0, stage, i), up = *slot(1, stage, i), by = scale[i * THREADS];
#pragma unroll
                    for (int v = 0; v < VEC; ++v) {
                        float d = to_float(up.e[v]), off = to_float(in.e[v]) - centre, g = d * to_float(by.e[v]);
                        own.a += g;
                        own.b = fmaf(g, off, own.b);
                        dgamma[i * VEC + v] = fmaf(d * times, off, dgamma[i * VEC + v]);
                        dbeta[i * VEC + v] += d;
                    }
                }
            }
        }
        own = within_warp(own);
        if constexpr (WARPS > 1) {
            tell(crossed[turn], own);
            all = over_warps(of_row(crossed[turn ^ 1]));
        }
        if (before) {
            float of_x = -all.b * over * old_times * old_times * old_times, rest = -all.a * over * old_times - old_centre * of_x;
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (HAS(i)) {
                    float out[VEC];
                    vec in = *slot(0, behind, i), up = *slot(1, behind, i), by = scale[i * THREADS];
#pragma unroll
                    for (int v = 0; v < VEC; ++v)
                        out[v] = fmaf(to_float(up.e[v]), to_float(by.e[v]) * old_times, fmaf(to_float(in.e[v]), of_x, rest));
                    store(dx + (n - step) * cols + AT(i), packed(out));
                }
            }
        }
        if constexpr (WARPS > 1)
            listen();
        else
            all = own;
        stage = stage + 1 >= STAGES ? 0 : stage + 1;
        turn ^= 1;
    }
#undef FETCH

    float* left = partial + (size_t)(blockIdx.x / CLUSTER) * cols;
    size_t apart = (size_t)(gridDim.x / CLUSTER) * cols;
    if constexpr (GROUPS == 1) {
#pragma unroll
        for (int i = 0; i < VPT; ++i) {
            if (HAS(i)) {
                leave(left + AT(i), dgamma + i * VEC);
                leave(left + apart + AT(i), dbeta + i * VEC);
            }
        }
        return;
    }
    // Adds the groups of the block in a fixed order, for reproducible results.
    __syncthreads();
    float* of_groups = (float*)memory;
    float* own = of_groups + (size_t)(threadIdx.x / TPR) * 2 * cols;
#pragma unroll
    for (int i = 0; i < VPT; ++i) {
        if (HAS(i)) {
            leave(own + AT(i), dgamma + i * VEC);
            leave(own + cols + AT(i), dbeta + i * VEC);
        }
    }
    __syncthreads();
    for (int c = threadIdx.x; c < 2 * cols; c += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int g = 0; g < GROUPS; ++g) sum += of_groups[(size_t)g * 2 * cols + c];
        left[c < cols ? c : apart + c - cols] = sum;
    }
}

// Sums the partial sums of gamma and beta. A block processes 32 columns, or 128 if columns can be read four at a time.
// Its 32 warps take the parts in turn.
extern "C" __global__ void __launch_bounds__(1024)
column_sums(const float* __restrict__ partial, element* __restrict__ dgamma, element* __restrict__ dbeta, int parts, int cols) {
    __shared__ float4 sums[32][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float* p = partial + (size_t)blockIdx.y * parts * cols;
    element* out = blockIdx.y ? dbeta : dgamma;
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    int wide = cols % 4 ? 1 : 4, col = (blockIdx.x * 32 + lane) * wide;
    if (col < cols) {
#pragma unroll 4
        for (int s = warp; s < parts; s += 32) {
            if (wide == 4) {
                float4 one = *(const float4*)(p + (size_t)s * cols + col);
                sum = {sum.x + one.x, sum.y + one.y, sum.z + one.z, sum.w + one.w};
            } else {
                sum.x += p[(size_t)s * cols + col];
            }
        }
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp >= wide || col >= cols) return;
    float total = 0.0f;
#pragma unroll 8
    for (int s = 0; s < 32; ++s) total += ((const float*)&sums[s][lane])[warp];
    out[col + warp] = from_float(total);
}

#endif
