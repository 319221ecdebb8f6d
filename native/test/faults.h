/* Faults that a test can ask for, in the test build of libmlxrank alone. A fault
 * comes once, with a microbatch that is computed on the CPU, or with a model. */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Asks for a fault with the nth microbatch from now, 1 for the next one:
 *
 *   late     MLX's thread fails after the evaluation was started
 *   memory   an allocation fails while the evaluation is being started
 *   unknown  an exception that is no std::exception is thrown there
 *   nan      the last pair's first logit is NaN
 *   wrong    the last pair's first logit is finite and 1 too large
 *   hang     the evaluation waits for the fault release
 *   type     the nth model to be opened, of the unfused graph, has a matrix of weights of
 *            another type than it was asked to have
 *   release  ends the waiting at once, and forgets faults that have not come; nth is
 *            ignored
 *
 * Returns 0, or 1 if there is no such fault. */
int32_t mlxrank_inject(const char *fault, int32_t nth);

#ifdef __cplusplus
}
#endif

#endif
