// SFC64, the generator of random.py, one independent stream per walker: same state, same numbers.

struct Stream {
    unsigned long long a, b, c, count;
};

__device__ __forceinline__ unsigned long long next_bits(Stream &s) {
    const unsigned long long out = s.a + s.b + s.count++;
    s.a = s.b ^ (s.b >> 11);
    s.b = s.c + (s.c << 3);
    s.c = ((s.c << 24) | (s.c >> 40)) + out;
    return out;
}

// A uniform number in [0, 1) with 53 random bits.
__device__ __forceinline__ double next_uniform(Stream &s) {
    return double(next_bits(s) >> 11) * (1.0 / 9007199254740992.0);
}
