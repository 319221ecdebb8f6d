/* Stands for libmlx: a version among its strings, and something to link with. */
#ifdef OTHER
const char *mlx_version(void) { return "0.31.0"; }
#else
const char *mlx_version(void) { return "0.32.2"; }
int mlx_add(int a, int b) { return a + b; }
#endif
#ifdef JACCL
int jaccl_rank(void);
int mlx_rank(void) { return jaccl_rank(); }
#endif
