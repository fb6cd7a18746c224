// The instructions of Intel AMX that bgfast_kernels.network uses, in C. Each thread has its own
// tiles, full of numbers that are wrong until something is loaded, and may touch them between
// configuring and releasing only.
//
// Sums are those of the instruction: products with an even and with an odd index are summed up
// apart, then both are added to the tile. That the unit flushes subnormals is left out.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static __thread uint32_t tiles[8][16][16];
static __thread int configured;

static uint32_t (*tile(int8_t number))[16] {
  if (!configured) abort();
  return tiles[number];
}

static float number(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

void bgfast_ldtilecfg(const uint8_t *configuration) {
  if (configuration[0] != 1) abort();
  for (int t = 0; t < 8; t++)
    if (configuration[16 + 2 * t] != 64 || configuration[48 + t] != 16) abort();
  configured = 1;
  memset(tiles, 0xFF, sizeof tiles);
}

void bgfast_tilerelease(void) { configured = 0; }

void bgfast_tileloadd64(int8_t t, const char *rows, int64_t stride) {
  for (int r = 0; r < 16; r++) memcpy(tile(t)[r], rows + r * stride, 64);
}

void bgfast_tileloaddt164(int8_t t, const char *rows, int64_t stride) {
  bgfast_tileloadd64(t, rows, stride);
}

void bgfast_tilestored64(int8_t t, char *rows, int64_t stride) {
  for (int r = 0; r < 16; r++) memcpy(rows + r * stride, tile(t)[r], 64);
}

void bgfast_tilezero(int8_t t) { memset(tile(t), 0, sizeof tiles[0]); }

void bgfast_tdpbf16ps(int8_t c, int8_t a, int8_t b) {
  uint32_t(*sums)[16] = tile(c), (*left)[16] = tile(a), (*right)[16] = tile(b);
  for (int m = 0; m < 16; m++) {
    float even[16] = {0}, odd[16] = {0};
    for (int k = 0; k < 16; k++) {
      float low = number(left[m][k] << 16), high = number(left[m][k] & 0xFFFF0000);
      for (int n = 0; n < 16; n++) {
        even[n] += low * number(right[k][n] << 16);
        odd[n] += high * number(right[k][n] & 0xFFFF0000);
      }
    }
    for (int n = 0; n < 16; n++) {
      float sum = number(sums[m][n]) + (even[n] + odd[n]);
      memcpy(&sums[m][n], &sum, 4);
    }
  }
}
