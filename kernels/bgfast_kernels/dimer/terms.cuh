// The terms of the dimer's energy; the formula stands in dimer/__init__.py. Lengths are in units of
// the power of two nearest to sigma, see constants.py.
#include "rows.cuh"

struct Physics {
    real scale, k_d, d0, a, b, c, l, k_box, strength, s_core, s_min, far;
};

#define PHYSICS_ARGUMENTS                                                                          \
    real scale, real k_d, real d0, real a, real b, real c, real l, real k_box, real strength,      \
        real s_core, real s_min, real far
#define PHYSICS                                                                                    \
    { scale, k_d, d0, a, b, c, l, k_box, strength, s_core, s_min, far }

// The place of particle i of the configuration at x; a place of its own far away if i >= N.
__device__ __forceinline__ void place(const real *x, int i, const Physics &p, real *r) {
    if (i < N) {
        const real2 there = reinterpret_cast<const real2 *>(x)[i];
        r[0] = fold(there.x, p);
        r[1] = fold(there.y, p);
    } else {
        r[0] = PADDING * real(i + 1);
        r[1] = real(0);
    }
}

// Particles 0 and 1, the dimer, do not repel each other.
__device__ __forceinline__ bool no_pair(int i, int j) { return i == j || (i < 2 && j < 2); }

// s^-6 of a pair, s = r^2 not below the core; t = s^-7 (r_i - r_j). Prefactors come later.
__device__ __forceinline__ real pair(
    const real *ri, const real *rj, bool excluded, const Physics &p, real *t) {
    const real dx = ri[0] - rj[0], dy = ri[1] - rj[1];
    const real s = excluded ? APART : fmax(dx * dx + dy * dy, p.s_core);
    const real inverse = reciprocal(s);
    const real inverse_2 = inverse * inverse;
    const real inverse_6 = inverse_2 * inverse_2 * inverse_2;
    const real w = inverse_6 * inverse;
    t[0] = w * dx;
    t[1] = w * dy;
    return inverse_6;
}

// t = s^-7 (v_i - v_j) - 14 s^-8 ((v_i - v_j) . r) r; r then v in qi and qj. The second part
// vanishes within the core, where the energy is linear in s.
__device__ __forceinline__ void pair_hessian(
    const real *qi, const real *qj, bool excluded, const Physics &p, real *t) {
    const real dx = qi[0] - qj[0], dy = qi[1] - qj[1];
    const real wx = qi[2] - qj[2], wy = qi[3] - qj[3];
    const real distance = dx * dx + dy * dy;
    const real s = excluded ? APART : fmax(distance, p.s_core);
    const real inverse = reciprocal(s);
    const real inverse_2 = inverse * inverse;
    const real inverse_7 = inverse_2 * inverse_2 * inverse_2 * inverse;
    const real bend = distance < p.s_core ? real(0) : real(-14) * inverse;
    const real along = bend * (dx * wx + dy * wy);
    t[0] = inverse_7 * (along * dx + wx);
    t[1] = inverse_7 * (along * dy + wy);
}

// How far a coordinate is beyond the walls, with sign.
__device__ __forceinline__ real beyond_walls(real r, const Physics &p) {
    return r - fmin(fmax(r, -p.l), p.l);
}

// What the pair sum t of one coordinate becomes in the gradient, the walls added.
__device__ __forceinline__ real with_walls(real t, real r, const Physics &p) {
    return real(-12) * p.strength * t + real(2) * p.k_box * beyond_walls(r, p);
}

// q = d - d0 of the dimer, d continued below the distance sqrt(s_min); 1/d of the guarded d.
__device__ __forceinline__ real stretch(real s, const Physics &p, real *inverse) {
    const real guarded = fmax(s, p.s_min);
    const real d = square_root(guarded, inverse);
    return d + real(0.5) * (s - guarded) * *inverse - p.d0;
}

// Energy of the dimer at r1, r2: restraint and double well; adds the gradient at each to g1, g2.
__device__ __forceinline__ real dimer_terms(
    const real *r1, const real *r2, const Physics &p, real *g1, real *g2) {
    const real dx = r1[0] - r2[0], dy = r1[1] - r2[1];
    real inverse;
    const real q = stretch(dx * dx + dy * dy, p, &inverse);
    const real w = (p.c + q * (p.a * (q * q) - p.b)) * inverse;
    const real centre = r1[0] + r2[0], factor = real(2) * p.k_d;
    g1[0] += factor * centre + w * dx;
    g1[1] += factor * r1[1] + w * dy;
    g2[0] += factor * centre - w * dx;
    g2[1] += factor * r2[1] - w * dy;
    const real restraint = centre * centre + r1[1] * r1[1] + r2[1] * r2[1];
    const real well = q * (p.c + q * (real(0.25) * p.a * (q * q) - real(0.5) * p.b));
    return p.k_d * restraint + well;
}

// The same terms' Hessian times v, added to h1, h2; q1 and q2 hold r, then v.
__device__ __forceinline__ void dimer_hessian(
    const real *q1, const real *q2, const Physics &p, real *h1, real *h2) {
    const real dx = q1[0] - q2[0], dy = q1[1] - q2[1];
    const real wx = q1[2] - q2[2], wy = q1[3] - q2[3];
    const real s = dx * dx + dy * dy;
    real inverse;
    const real q = stretch(s, p, &inverse);
    const real w = (p.c + q * (p.a * (q * q) - p.b)) * inverse;
    const real curvature =
        real(3) * p.a * (q * q) - p.b - (s < p.s_min ? real(0) : w);
    const real along = curvature * inverse * inverse * (dx * wx + dy * wy);
    const real tx = along * dx + w * wx, ty = along * dy + w * wy;
    const real centre = q1[2] + q2[2], factor = real(2) * p.k_d;
    h1[0] += factor * centre + tx;
    h1[1] += factor * q1[3] + ty;
    h2[0] += factor * centre - tx;
    h2[1] += factor * q2[3] - ty;
}

// The energy of one pair at the core radius.
__device__ __forceinline__ real energy_at_core(const Physics &p) {
    const real inverse = reciprocal(p.s_core);
    const real inverse_2 = inverse * inverse;
    return p.strength * inverse_2 * inverse_2 * inverse_2;
}

// What pair() left out of the energy within the core, 6 u_core (1 - s / s_core), for the particles
// of one lane. Seldom called, so it reads x once more.
template <int LANES>
__device__ __forceinline__ real core_energy(const real *x, int lane, const Physics &p) {
    const real inverse = reciprocal(p.s_core);
    real missing = real(0);
    for (int i = lane; i < N; i += LANES)
        for (int j = i + 1; j < N; ++j) {
            real ri[2], rj[2];
            place(x, i, p, ri);
            place(x, j, p, rj);
            const real dx = ri[0] - rj[0], dy = ri[1] - rj[1];
            if (!no_pair(i, j)) missing += fmax(real(0), real(1) - (dx * dx + dy * dy) * inverse);
        }
    return real(6) * energy_at_core(p) * missing;
}

// The gradient at one particle with respect to phi(x), in the user's unit: a plain loop for the
// few coordinates beyond far, which need it for the curvature of phi.
__device__ __forceinline__ real2 gradient_at(const real *x, int i, const Physics &p) {
    real ri[2], g[2] = {real(0), real(0)};
    place(x, i, p, ri);
    for (int j = 0; j < N; ++j) {
        real rj[2], t[2];
        place(x, j, p, rj);
        pair(ri, rj, no_pair(i, j), p, t);
        g[0] += t[0];
        g[1] += t[1];
    }
    for (int axis = 0; axis < 2; ++axis) g[axis] = with_walls(g[axis], ri[axis], p);
    if (i < 2) {
        real r1[2], r2[2], g1[2] = {real(0), real(0)}, g2[2] = {real(0), real(0)};
        place(x, 0, p, r1);
        place(x, 1, p, r2);
        dimer_terms(r1, r2, p, g1, g2);
        for (int axis = 0; axis < 2; ++axis) g[axis] += i == 0 ? g1[axis] : g2[axis];
    }
    return {g[0] * p.scale, g[1] * p.scale};
}

// Write the gradient g of particle i, in the kernel's unit of length, to its row; without `far` it
// is no far particle.
__device__ __forceinline__ void write_gradient(
    const real *x, const real *g, int i, bool far, const Physics &p, real *grad) {
    real2 out = {g[0] * p.scale, g[1] * p.scale};
    if (far) {
        const real2 there = reinterpret_cast<const real2 *>(x)[i];
        out.x *= fold_slope(there.x, p);
        out.y *= fold_slope(there.y, p);
    }
    reinterpret_cast<real2 *>(grad)[i] = out;
}

// r, then phi' v of particle i of the configuration at x.
__device__ __forceinline__ void place_with_direction(
    const real *x, const real *v, int i, const Physics &p, real *q) {
    place(x, i, p, q);
    q[2] = q[3] = real(0);
    if (i >= N) return;
    const real2 there = reinterpret_cast<const real2 *>(x)[i];
    const real2 along = reinterpret_cast<const real2 *>(v)[i];
    q[2] = fold_slope(there.x, p) * along.x;
    q[3] = fold_slope(there.y, p) * along.y;
}

// What the pair sum h of one particle becomes in the Hessian product, the walls added.
__device__ __forceinline__ void add_wall_hessian(const real *q, const Physics &p, real *h) {
    for (int axis = 0; axis < 2; ++axis) {
        const real stiffness = fabs(q[axis]) > p.l ? real(2) * p.k_box : real(0);
        h[axis] = real(-12) * p.strength * h[axis] + stiffness * q[2 + axis];
    }
}

// Write the product h of particle i, in the kernel's unit of length: phi' h + g phi'' v.
__device__ __forceinline__ void write_hessian(
    const real *x, const real *v, const real *h, int i, const Physics &p, real *out) {
    const real2 there = reinterpret_cast<const real2 *>(x)[i];
    const real unit = p.scale * p.scale;
    real2 product = {h[0] * unit * fold_slope(there.x, p), h[1] * unit * fold_slope(there.y, p)};
    if (is_far(there.x, p) || is_far(there.y, p)) {
        const real2 along = reinterpret_cast<const real2 *>(v)[i];
        const real2 g = gradient_at(x, i, p);
        product.x += g.x * fold_curvature(there.x, p) * along.x;
        product.y += g.y * fold_curvature(there.y, p) * along.y;
    }
    reinterpret_cast<real2 *>(out)[i] = product;
}
