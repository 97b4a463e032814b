// Softmax and normalisation of rows: TPR threads share a row, VPT vectors each, so that it is read once and written once.
// A block holds GROUPS rows at a time and walks over all of them; the rows of its next STAGES - 1 turns are already on
// their way into shared memory while one is worked on. Each thread fetches and uses its own vectors, so a fetch needs
// no barrier, only its own wait.
//
// Set when compiled: TPR (threads of a row: a power of two up to 1024), VPT (vectors of a thread), STAGES, THREADS (of a
// block, at least TPR), MASK (whether a mask is added).

#define GROUPS (THREADS / TPR)

// A thread's place in its row, and the element at which its vector i starts.
#define LANE (threadIdx.x % TPR)
#define AT(i) (((i) * TPR + LANE) * VEC)

#define EACH(i, v) \
    _Pragma("unroll") for (int i = 0; i < VPT; ++i) if (AT(i) < cols) _Pragma("unroll") for (int v = 0; v < VEC; ++v)

extern __shared__ __align__(16) unsigned char memory[];

struct row {
    vec v[VPT];
};

// Inputs of a stage lie one behind the other: input * STAGES + stage, then vector, then thread.
__device__ __forceinline__ vec* slot(int input, int stage, int i) {
    return (vec*)memory + ((input * STAGES + stage) * VPT + i) * THREADS + threadIdx.x;
}

__device__ __forceinline__ void fetch(int input, int stage, const element* p, int cols) {
#pragma unroll
    for (int i = 0; i < VPT; ++i) {
        if (AT(i) < cols) {
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

// Ends the fetches of one turn; ``arrived`` waits until those of the oldest of STAGES turns are there.
__device__ __forceinline__ void sent() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}

__device__ __forceinline__ void arrived() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
#endif
}

__device__ __forceinline__ row taken(int input, int stage, int cols) {
    row r;
#pragma unroll
    for (int i = 0; i < VPT; ++i)
        if (AT(i) < cols) r.v[i] = *slot(input, stage, i);
    return r;
}

// The rows of this thread's group, turn by turn: FETCH(stage, n) asks for row n, and BODY runs with ``n`` (a row, or
// beyond the last) and ``stage`` when it has arrived. Every thread of a block takes part in every turn.
#define FOR_ROWS(FETCH)                                                                                   \
    const long long step = (long long)gridDim.x * GROUPS;                                                 \
    const long long mine = (long long)blockIdx.x * GROUPS + threadIdx.x / TPR;                            \
    _Pragma("unroll") for (int s = 0; s < STAGES - 1; ++s) {                                              \
        if (mine + s * step < rows) { FETCH(s, mine + s * step); }                                        \
        sent();                                                                                           \
    }                                                                                                     \
    int stage = 0;                                                                                        \
    for (long long n = mine; n - threadIdx.x / TPR < rows; n += step, stage = stage + 1 == STAGES ? 0 : stage + 1)

#define NEXT_ROW(FETCH)                                                                                   \
    {                                                                                                     \
        int ahead = stage == 0 ? STAGES - 1 : stage - 1;                                                  \
        if (n + (STAGES - 1) * step < rows) { FETCH(ahead, n + (STAGES - 1) * step); }                    \
        sent();                                                                                           \
        arrived();                                                                                        \
    }

// --- softmax ---------------------------------------------------------------------------------------------------------

// y = softmax(x + mask) along rows; where MASK is set, mask row = row % mask_rows. A row that is masked
// everywhere with minus infinity has no softmax; it becomes zeros.
extern "C" __global__ void __launch_bounds__(THREADS)
softmax_forward(const element* __restrict__ x, const element* __restrict__ mask, element* __restrict__ y, long long rows,
                int cols, int mask_rows) {
    __shared__ float scratch[2][32];
#define FETCH(s, n) fetch(0, s, x + (n) * cols, cols)
    FOR_ROWS(FETCH) {
        NEXT_ROW(FETCH)
        bool here = n < rows;
        float f[VPT * VEC], top = max_of::none();
        if (here) {
            const element* hidden = MASK ? mask + n % mask_rows * cols : nullptr;
            row in = taken(0, stage, cols);
            EACH(i, v) {
                float e = to_float(in.v[i].e[v]);
                if (MASK) e += to_float(hidden[AT(i) + v]);
                f[i * VEC + v] = e;
                top = fmaxf(top, e);
            }
        }
        top = reduce<max_of, TPR>(top, scratch[0]);
        float shift = top == max_of::none() ? 0.0f : top * 1.4426950408889634f, sum = 0.0f;
        if (here) {
            EACH(i, v) {
                float e = exp2f(fmaf(f[i * VEC + v], 1.4426950408889634f, -shift));
                f[i * VEC + v] = e;
                sum += e;
            }
        }
        sum = reduce<sum_of, TPR>(sum, scratch[1]);
        float scale = sum > 0.0f ? 1.0f / sum : 0.0f;
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (AT(i) < cols) {
#pragma unroll
                    for (int v = 0; v < VEC; ++v) f[i * VEC + v] *= scale;
                    store(y + n * cols + AT(i), packed(f + i * VEC));
                }
            }
        }
    }
#undef FETCH
}

// Rows too long for registers: one pass for the running maximum and sum, a second that reads the row again.
extern "C" __global__ void __launch_bounds__(THREADS)
softmax_long_forward(const element* __restrict__ x, const element* __restrict__ mask, element* __restrict__ y,
                     long long rows, int cols, int mask_rows) {
    __shared__ float scratch[2][32];
    for (long long n = blockIdx.x; n < rows; n += gridDim.x) {
        const element* p = x + n * cols;
        const element* m = MASK ? mask + n % mask_rows * cols : nullptr;
        float top = max_of::none(), sum = 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load_shared(p + at);
            float f[VEC], high = top;
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                f[v] = to_float(in.e[v]) + (MASK ? to_float(m[at + v]) : 0.0f);
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
            vec in = load(p + at);
            float out[VEC];
#pragma unroll
            for (int v = 0; v < VEC; ++v) {
                float e = to_float(in.e[v]) + (MASK ? to_float(m[at + v]) : 0.0f);
                out[v] = exp2f((e - shift) * 1.4426950408889634f) * scale;
            }
            store(y + n * cols + at, packed(out));
        }
        __syncthreads();
    }
}

// dx = y (dy - sum of y dy).
extern "C" __global__ void __launch_bounds__(THREADS)
softmax_backward(const element* __restrict__ y, const element* __restrict__ dy, element* __restrict__ dx, long long rows,
                 int cols) {
    __shared__ float scratch[2][32];
    int turn = 0;
#define FETCH(s, n) fetch(0, s, y + (n) * cols, cols), fetch(1, s, dy + (n) * cols, cols)
    FOR_ROWS(FETCH) {
        NEXT_ROW(FETCH)
        bool here = n < rows;
        float sum = 0.0f;
        row a, g;
        if (here) {
            a = taken(0, stage, cols);
            g = taken(1, stage, cols);
            EACH(i, v) sum = fmaf(to_float(a.v[i].e[v]), to_float(g.v[i].e[v]), sum);
        }
        sum = reduce<sum_of, TPR>(sum, scratch[turn]);
        turn ^= 1;
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (AT(i) < cols) {
                    float out[VEC];
#pragma unroll
                    for (int v = 0; v < VEC; ++v) out[v] = to_float(a.v[i].e[v]) * (to_float(g.v[i].e[v]) - sum);
                    store(dx + n * cols + AT(i), packed(out));
                }
            }
        }
    }
#undef FETCH
}

extern "C" __global__ void __launch_bounds__(THREADS)
softmax_long_backward(const element* __restrict__ y, const element* __restrict__ dy, element* __restrict__ dx,
                      long long rows, int cols) {
    __shared__ float scratch[32];
    for (long long n = blockIdx.x; n < rows; n += gridDim.x) {
        float sum = 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec a = load_shared(y + n * cols + at), g = load_shared(dy + n * cols + at);
#pragma unroll
            for (int v = 0; v < VEC; ++v) sum = fmaf(to_float(a.e[v]), to_float(g.e[v]), sum);
        }
        sum = reduce<sum_of, THREADS>(sum, scratch);
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec a = load(y + n * cols + at), g = load(dy + n * cols + at);
            float out[VEC];
#pragma unroll
            for (int v = 0; v < VEC; ++v) out[v] = to_float(a.e[v]) * (to_float(g.e[v]) - sum);
            store(dx + n * cols + at, packed(out));
        }
        __syncthreads();
    }
}

// --- normalisation ---------------------------------------------------------------------------------------------------

// LayerNorm: both reductions in one pass over registers. The sums are of x less the row's first element: a row with a
// large common offset keeps its digits (variance = mean of squares - square of mean cancels otherwise).
// RMS: no mean, no beta. Statistics are kept for the backward pass where the pointers are not null.
template <bool RMS>
__device__ __forceinline__ void normalise(const element* __restrict__ x, const element* __restrict__ gamma,
                                          const element* __restrict__ beta, element* __restrict__ y,
                                          float* __restrict__ mean_out, float* __restrict__ rstd_out, long long rows,
                                          int cols, float epsilon) {
    __shared__ float scratch[4][32];
    __shared__ float origins[2][GROUPS];
    int turn = 0;
    row scale, shift;
#pragma unroll
    for (int i = 0; i < VPT; ++i) {
        if (AT(i) < cols) {
            scale.v[i] = load_shared(gamma + AT(i));
            if (!RMS) shift.v[i] = load_shared(beta + AT(i));
        }
    }
    float over = 1.0f / cols;
#define FETCH(s, n) fetch(0, s, x + (n) * cols, cols)
    FOR_ROWS(FETCH) {
        NEXT_ROW(FETCH)
        bool here = n < rows;
        float sum = 0.0f, squares = 0.0f, origin = 0.0f;
        row in;
        if (here) in = taken(0, stage, cols);
        if (!RMS) {
            float own = here ? to_float(in.v[0].e[0]) : 0.0f;
            if constexpr (TPR <= 32) {
                origin = __shfl_sync(~0u, own, threadIdx.x % 32 / TPR * TPR);
            } else {
                if (LANE == 0) origins[turn][threadIdx.x / TPR] = own;
                __syncthreads();
                origin = origins[turn][threadIdx.x / TPR];
            }
        }
        if (here) {
            EACH(i, v) {
                float e = to_float(in.v[i].e[v]) - origin;
                if (!RMS) sum += e;
                squares = fmaf(e, e, squares);
            }
        }
        if (!RMS) sum = reduce<sum_of, TPR>(sum, scratch[turn]);
        squares = reduce<sum_of, TPR>(squares, scratch[turn + 2]);
        turn ^= 1;
        float mean = sum * over;
        float rstd = rsqrtf(fmaxf(squares * over - mean * mean, 0.0f) + epsilon);
        if (here) {
            float middle = mean + origin;
            if (LANE == 0) {
                if (!RMS && mean_out) mean_out[n] = middle;
                if (rstd_out) rstd_out[n] = rstd;
            }
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (AT(i) < cols) {
                    float out[VEC];
#pragma unroll
                    for (int v = 0; v < VEC; ++v) {
                        float e = (to_float(in.v[i].e[v]) - middle) * rstd * to_float(scale.v[i].e[v]);
                        out[v] = RMS ? e : e + to_float(shift.v[i].e[v]);
                    }
                    store(y + n * cols + AT(i), packed(out));
                }
            }
        }
    }
#undef FETCH
}

// Rows too long for a block's registers: one pass for both sums, a second that reads the row again.
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
            vec in = load_shared(p + at);
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
            vec in = load(p + at), scale = load_shared(gamma + at), shift;
            if (!RMS) shift = load_shared(beta + at);
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

// The gradient of long rows' input; those of gamma and beta walk down the columns in the kernel below.
extern "C" __global__ void __launch_bounds__(THREADS)
layernorm_long_backward(const element* __restrict__ x, const element* __restrict__ dy, const element* __restrict__ gamma,
                        const float* __restrict__ mean, const float* __restrict__ rstd, element* __restrict__ dx,
                        long long rows, int cols) {
    __shared__ float scratch[2][32];
    float over = 1.0f / cols;
    for (long long n = blockIdx.x; n < rows; n += gridDim.x) {
        float middle = mean[n], inverse = rstd[n], a = 0.0f, b = 0.0f;
        for (int at = threadIdx.x * VEC; at < cols; at += THREADS * VEC) {
            vec in = load_shared(x + n * cols + at), up = load_shared(dy + n * cols + at), scale = load_shared(gamma + at);
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
            vec in = load_shared(x + n * cols + at), up = load_shared(dy + n * cols + at), scale = load_shared(gamma + at);
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

// One part of the rows for THREADS x VEC columns, into ``partial`` as layernorm_backward leaves it.
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

extern "C" __global__ void __launch_bounds__(THREADS)
layernorm_forward(const element* x, const element* gamma, const element* beta, element* y, float* mean, float* rstd,
                  long long rows, int cols, float epsilon) {
    normalise<false>(x, gamma, beta, y, mean, rstd, rows, cols, epsilon);
}

extern "C" __global__ void __launch_bounds__(THREADS)
rmsnorm_forward(const element* x, const element* gamma, element* y, float* rstd, long long rows, int cols, float epsilon) {
    normalise<true>(x, gamma, nullptr, y, nullptr, rstd, rows, cols, epsilon);
}

// dx = (g - mean of g - xhat mean of g xhat) / sigma with g = dy gamma; each thread adds dy xhat and dy of its own
// columns over all the rows of its group; the block leaves its sums in ``partial`` (2, blocks, cols) for the kernel below.
extern "C" __global__ void __launch_bounds__(THREADS)
layernorm_backward(const element* __restrict__ x, const element* __restrict__ dy, const element* __restrict__ gamma,
                   const float* __restrict__ mean, const float* __restrict__ rstd, element* __restrict__ dx,
                   float* __restrict__ partial, long long rows, int cols) {
    __shared__ float scratch[4][32];
    int turn = 0;
    row scale;
    float dgamma[VPT * VEC], dbeta[VPT * VEC];
#pragma unroll
    for (int i = 0; i < VPT; ++i) {
        if (AT(i) < cols) scale.v[i] = load_shared(gamma + AT(i));
#pragma unroll
        for (int v = 0; v < VEC; ++v) dgamma[i * VEC + v] = dbeta[i * VEC + v] = 0.0f;
    }
    float over = 1.0f / cols;
#define FETCH(s, n) fetch(0, s, x + (n) * cols, cols), fetch(1, s, dy + (n) * cols, cols)
    FOR_ROWS(FETCH) {
        bool here = n < rows;
        float middle = here ? mean[n] : 0.0f, inverse = here ? rstd[n] : 0.0f;
        NEXT_ROW(FETCH)
        float a = 0.0f, b = 0.0f;
        row in, up;
        if (here) {
            in = taken(0, stage, cols);
            up = taken(1, stage, cols);
            EACH(i, v) {
                float d = to_float(up.v[i].e[v]), xhat = (to_float(in.v[i].e[v]) - middle) * inverse;
                float g = d * to_float(scale.v[i].e[v]);
                a += g;
                b = fmaf(g, xhat, b);
                dgamma[i * VEC + v] = fmaf(d, xhat, dgamma[i * VEC + v]);
                dbeta[i * VEC + v] += d;
            }
        }
        a = reduce<sum_of, TPR>(a, scratch[turn]) * over;
        b = reduce<sum_of, TPR>(b, scratch[turn + 2]) * over;
        turn ^= 1;
        if (here) {
#pragma unroll
            for (int i = 0; i < VPT; ++i) {
                if (AT(i) < cols) {
                    float out[VEC];
#pragma unroll
                    for (int v = 0; v < VEC; ++v) {
                        float xhat = (to_float(in.v[i].e[v]) - middle) * inverse;
                        float g = to_float(up.v[i].e[v]) * to_float(scale.v[i].e[v]);
                        out[v] = (g - a - xhat * b) * inverse;
                    }
                    store(dx + n * cols + AT(i), packed(out));
                }
            }
        }
    }
#undef FETCH
    // The block's groups are added one after the other, in the same order every time.
    float* sums = (float*)memory;
    for (int g = 0; g < GROUPS; ++g) {
        __syncthreads();
        if (threadIdx.x / TPR == g) {
            EACH(i, v) {
                float before = g ? sums[AT(i) + v] : 0.0f, beside = g ? sums[cols + AT(i) + v] : 0.0f;
                sums[AT(i) + v] = before + dgamma[i * VEC + v];
                sums[cols + AT(i) + v] = beside + dbeta[i * VEC + v];
            }
        }
    }
    __syncthreads();
    for (int c = threadIdx.x; c < cols; c += THREADS) {
        partial[(size_t)blockIdx.x * cols + c] = sums[c];
        partial[((size_t)gridDim.x + blockIdx.x) * cols + c] = sums[cols + c];
    }
}

// Sums the blocks' parts of both: a block takes 32 columns, its 32 warps take the parts in turn.
extern "C" __global__ void __launch_bounds__(1024)
column_sums(const float* __restrict__ partial, element* __restrict__ dgamma, element* __restrict__ dbeta, int parts, int cols) {
    __shared__ float sums[32][33];
    int col = blockIdx.x * 32 + threadIdx.x % 32, warp = threadIdx.x / 32;
    const float* p = partial + (size_t)blockIdx.y * parts * cols;
    float sum = 0.0f;
    if (col < cols)
        for (int s = warp; s < parts; s += 32) sum += p[(size_t)s * cols + col];
    sums[warp][threadIdx.x % 32] = sum;
    __syncthreads();
    sum = sums[threadIdx.x % 32][warp];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
    col = blockIdx.x * 32 + warp;
    if (threadIdx.x % 32 == 0 && col < cols) (blockIdx.y ? dbeta : dgamma)[col] = from_float(sum);
}
