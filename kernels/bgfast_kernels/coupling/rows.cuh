// How rows are shared out: G neighbouring lanes of a warp hold the columns of one row, so that
// a row's bits depend on nothing but that row. Define: G, BLOCK.

struct Row {
    long long index;
    bool own;  // false: a lane without a row of its own goes along with the last row
};

__device__ __forceinline__ Row row_of_lanes(long long n) {
    const long long row = (long long)blockIdx.x * (BLOCK / G) + threadIdx.x / G;
    return {row < n ? row : n - 1, row < n};
}
