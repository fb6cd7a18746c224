/* Multiply-adds of float32 in registers, 16 vectors at a time: the rate no product of matrices on
   these units can go above. */

typedef float lanes __attribute__((vector_size(64)));

enum { SUMS = 16 };

void multiply_adds(long n, float *numbers)
{
    lanes sums[SUMS], factor, term;
    for (int i = 0; i < 16; i++) {
        factor[i] = numbers[0];
        term[i] = numbers[1];
    }
    for (int k = 0; k < SUMS; k++)
        sums[k] = term * (float)k; /* chains that are equal would be made one */
    for (long done = 0; done < n; done += 16 * SUMS)
        for (int k = 0; k < SUMS; k++)
            sums[k] = sums[k] * factor + term;
    for (int k = 1; k < SUMS; k++)
        sums[0] += sums[k];
    numbers[2] = sums[0][0];
}
