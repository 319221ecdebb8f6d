/* Includes the header of this checkout, which the Swift code was written for. If the
 * package was copied out of its repository, includes the installed header. At run time
 * the Swift code compares MLXR_ABI with the library's mlxr_abi. */
#if __has_include("../../../mlxr.h")
#include "../../../mlxr.h"
#else
#include <mlxr.h>
#endif
