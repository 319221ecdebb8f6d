/* Stands for libjaccl, which MLX is linked with from macOS 26.2 on. */
int jaccl_rank(void) { return 0; }
