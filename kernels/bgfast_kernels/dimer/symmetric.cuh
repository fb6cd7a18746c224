// Every pair once, G lanes per configuration, all in registers: lane l holds the K = ceil(N / G)
// particles k G + l. Lanes at distance 1 ... G/2 exchange their particles by shuffles, and the sums
// of the partners travel back the same way.

#define K ((N + G - 1) / G)

// The places of a lane's particles, as place() gives each; whether any is far. One branch for all.
__device__ __forceinline__ bool place_all(
    const real *x, int lane, const Physics &p, real (&own)[K][2]) {
    bool far = false;
#pragma unroll
    for (int k = 0; k < K; ++k) {
        own[k][0] = own[k][1] = real(0);
        if (k * G + lane >= N) continue;
        const real2 there = reinterpret_cast<const real2 *>(x)[k * G + lane];
        own[k][0] = there.x;
        own[k][1] = there.y;
        far |= is_far(there.x, p) || is_far(there.y, p);
    }
    if (far)
#pragma unroll
        for (int k = 0; k < K; ++k)
#pragma unroll
            for (int axis = 0; axis < 2; ++axis) own[k][axis] = phi(own[k][axis], p);
#pragma unroll
    for (int k = 0; k < K; ++k) {
        const bool exists = k * G + lane < N;
        own[k][0] = exists ? own[k][0] * p.scale : PADDING * real(k * G + lane + 1);
        own[k][1] *= p.scale;
    }
    return far;
}

// Add t of every pair to out[k] of one particle and subtract it from the other's; term(qi, qj,
// excluded, t) writes t[2]. own[k] holds the IN numbers of particle k G + lane.
template <int IN, class Term>
__device__ __forceinline__ void each_pair_once(
    const real (&own)[K][IN], real (&out)[K][2], int lane, Term term) {
    real t[2];
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
        for (int m = k + 1; m < K; ++m) {
            term(own[k], own[m], false, t);
            out[k][0] += t[0];
            out[k][1] += t[1];
            out[m][0] -= t[0];
            out[m][1] -= t[1];
        }
#pragma unroll
    for (int distance = 1; distance <= G / 2; ++distance) {
        real theirs[K][IN], back[K][2];
#pragma unroll
        for (int m = 0; m < K; ++m) {
#pragma unroll
            for (int c = 0; c < IN; ++c)
                theirs[m][c] = __shfl_sync(ALL_LANES, own[m][c], lane + distance, G);
            back[m][0] = back[m][1] = real(0);
        }
        // Lanes G/2 apart meet from both sides: one takes m >= k, the other m > k.
        const bool twice = 2 * distance == G;
#pragma unroll
        for (int k = 0; k < K; ++k)
#pragma unroll
            for (int m = 0; m < K; ++m) {
                if (twice && m < k) continue;
                const bool dimer = distance == 1 && k == 0 && m == 0 && lane == 0;
                term(own[k], theirs[m], dimer || (twice && m == k && lane >= G / 2), t);
                out[k][0] += t[0];
                out[k][1] += t[1];
                back[m][0] += t[0];
                back[m][1] += t[1];
            }
#pragma unroll
        for (int m = 0; m < K; ++m)
#pragma unroll
            for (int c = 0; c < 2; ++c)
                out[m][c] -= __shfl_sync(ALL_LANES, back[m][c], lane + G - distance, G);
    }
}
