/* Stands for libmlxrank. */
const char *mlx_version(void);
int mlx_add(int a, int b);
const char *mlxrank_built(void) { return "0.32.2"; }
int mlxrank_load(int a) { return mlx_add(a, mlx_version()[0]); }
