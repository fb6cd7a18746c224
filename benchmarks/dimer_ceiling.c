/* The dimer's energy and gradient with one sample per SIMD lane: the same arithmetic as the numba
 * kernel, written by hand for one particle number and one dtype, without far map and input checks.
 * Compiled at run time with -DREAL=float|double, -DWORD=int|long as wide, -DLANES and -DN=38.
 *
 * void energy_grad(long n, const REAL *x, const REAL *c, REAL *u, REAL *g), n a multiple of LANES;
 * c holds k_d, d0, a, b, c, l, k_box, eps sigma^12, squared core radius.
 */
#include <math.h>

typedef REAL V __attribute__((vector_size(LANES * sizeof(REAL))));
typedef struct { V x, y; } P;

static inline V least(V a, V b) {
    for (int l = 0; l < LANES; l++) a[l] = a[l] < b[l] ? a[l] : b[l];
    return a;
}
static inline V most(V a, V b) {
    for (int l = 0; l < LANES; l++) a[l] = a[l] > b[l] ? a[l] : b[l];
    return a;
}

/* to[c * to_step + r] = from[r * from_step + c] for a square tile, by log2(LANES) rounds of swaps. */
typedef WORD W __attribute__((vector_size(LANES * sizeof(REAL))));
typedef REAL U __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));
static inline __attribute__((always_inline)) void tile(const REAL *from, long from_step, REAL *to,
                                                       long to_step) {
    V rows[LANES];
#pragma GCC unroll 16
    for (int r = 0; r < LANES; r++) rows[r] = *(const U *)(from + r * from_step);
#define ROUND(STEP)                                                                                \
    {                                                                                              \
        W low, high;                                                                               \
        _Pragma("GCC unroll 16") for (int k = 0; k < LANES; k++) {                                 \
            low[k] = k & STEP ? LANES + k - STEP : k;                                              \
            high[k] = k & STEP ? LANES + k : k + STEP;                                             \
        }                                                                                          \
        _Pragma("GCC unroll 16") for (int r = 0; r < LANES; r++) if (!(r & STEP)) {                \
            V a = rows[r], b = rows[r + STEP];                                                     \
            rows[r] = __builtin_shuffle(a, b, low);                                                \
            rows[r + STEP] = __builtin_shuffle(a, b, high);                                        \
        }                                                                                          \
    }
    ROUND(1) ROUND(2) ROUND(4)
#if LANES == 16
    ROUND(8)
#endif
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) *(U *)(to + c * to_step) = rows[c];
}

void energy_grad(long n, const REAL *restrict x, const REAL *restrict c, REAL *restrict u,
                 REAL *restrict g) {
    const V zero = {0};
    for (long row = 0; row < n; row += LANES) {
        P r[N], f[N];
        const REAL *source = x + row * 2 * N;
        for (int k = 0; k < 2 * N; k += LANES) { /* the last tile overlaps the one before */
            int at = k + LANES > 2 * N ? 2 * N - LANES : k;
            tile(source + at, 2 * N, (REAL *)r + at * LANES, LANES);
        }
        for (int i = 0; i < N; i++) f[i] = (P){zero, zero};
        V total = zero;
        for (int i = 0; i < N; i++) {
            P ri = r[i], fi = f[i];
            V e = zero;
            for (int j = i ? i + 1 : 2; j < N; j++) {
                V dx = ri.x - r[j].x, dy = ri.y - r[j].y;
                V inverse = 1 / most(dx * dx + dy * dy, zero + c[8]);
                V inverse_2 = inverse * inverse, inverse_6 = inverse_2 * inverse_2 * inverse_2;
                V w = inverse_6 * inverse;
                e += inverse_6;
                fi.x += w * dx, fi.y += w * dy;
                f[j].x -= w * dx, f[j].y -= w * dy;
            }
            f[i] = fi;
            total += e;
            for (int k = 0; k < 2; k++) { /* the lines this block and the next will need */
                long line = (2 * i + k) * LANES;
                __builtin_prefetch(source + 2 * N * LANES + line, 0);
                __builtin_prefetch(g + row * 2 * N + line, 1);
            }
        }
        V e_wall = zero;
        for (int k = 0; k < 2 * N; k++) {
            V xk = ((V *)r)[k], beyond = xk - least(most(xk, zero - c[5]), zero + c[5]);
            ((V *)f)[k] = 2 * c[6] * beyond - 12 * c[7] * ((V *)f)[k];
            e_wall += beyond * beyond;
        }
        V centre = r[0].x + r[1].x, dx = r[0].x - r[1].x, dy = r[0].y - r[1].y, d = zero;
        V s = dx * dx + dy * dy;
        for (int l = 0; l < LANES; l++) d[l] = sizeof(REAL) == 4 ? sqrtf(s[l]) : sqrt(s[l]);
        V q = d - c[1], w = (c[4] + q * (c[2] * q * q - c[3])) / d;
        f[0].x += 2 * c[0] * centre + w * dx, f[1].x += 2 * c[0] * centre - w * dx;
        f[0].y += 2 * c[0] * r[0].y + w * dy, f[1].y += 2 * c[0] * r[1].y - w * dy;
        V energy = c[7] * total + c[6] * e_wall + q * (c[4] + q * (c[2] / 4 * q * q - c[3] / 2))
                 + c[0] * (centre * centre + r[0].y * r[0].y + r[1].y * r[1].y);
        for (int l = 0; l < LANES; l++) u[row + l] = energy[l];
        for (int k = 0; k < 2 * N; k += LANES) {
            int at = k + LANES > 2 * N ? 2 * N - LANES : k;
            tile((REAL *)f + at * LANES, LANES, g + row * 2 * N + at, 2 * N);
        }
    }
}
