// Each lane sums over all partners of its own particles, which pass through shared memory in tiles.
// Every pair is computed from both sides; little code, any N. A group is G <= 32 lanes of one warp,
// so that warp barriers order its traffic. Defines: N, G, BLOCK, CHUNK (particles a lane holds at
// once), TILE (particles in shared memory); no_pair(i, j) comes from the energy's own file.

// For the particles first + c G + lane of a lane: add term(own, other, excluded, t) over all others
// to out. load(j, q) writes the IN numbers of particle j.
template <int IN, int OUT, class Load, class Term>
__device__ __forceinline__ void each_partner(
    const real (&own)[CHUNK][IN], real (&out)[CHUNK][OUT], int first, int lane,
    real (*tile)[IN], Load load, Term term) {
    real t[OUT];
    for (int start = 0; start < N; start += TILE) {
        const int size = N - start < TILE ? N - start : TILE;
        __syncwarp();  // the tile may still be read
        for (int j = lane; j < size; j += G) load(start + j, tile[j]);
        __syncwarp();
        for (int j = 0; j < size; ++j)
#pragma unroll
            for (int c = 0; c < CHUNK; ++c) {
                const int i = first + c * G + lane;
                term(own[c], tile[j], no_pair(i, start + j), t);
#pragma unroll
                for (int axis = 0; axis < OUT; ++axis) out[c][axis] += t[axis];
            }
    }
}
