/* The header of this very checkout, for which the Swift code beside it is
 * written; mlxr_abi tells whether the library found is of the same number. Only
 * where the package was copied out of its repository is it the installed one. */
#if __has_include("../../../mlxr.h")
#include "../../../mlxr.h"
#else
#include <mlxr.h>
#endif
