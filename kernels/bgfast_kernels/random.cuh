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

// A standard normal number by the ziggurat of random.py; layers[256][4] are its tables.
__device__ __forceinline__ double next_normal(Stream &s, const double *layers) {
    const double tail = 3.6541528853610088;  // where the lowest layer's edge meets the tail
    for (;;) {
        const unsigned long long bits = next_bits(s);
        const double *layer = layers + 4 * int(bits & 0xff);
        const double magnitude = double((bits >> 9) & 0xfffffffffffffull);
        const double x = (bits >> 8 & 1 ? -magnitude : magnitude) * layer[1];
        if (magnitude < layer[0]) return x;
        if ((bits & 0xff) == 0) {
            double beyond, height;
            do {
                beyond = -log1p(-next_uniform(s)) / tail;
                height = -log1p(-next_uniform(s));
            } while (!(height + height > beyond * beyond));
            return bits >> 17 & 1 ? -(tail + beyond) : tail + beyond;
        }
        if (layer[2] + (layer[3] - layer[2]) * next_uniform(s) < exp(-0.5 * x * x)) return x;
    }
}
