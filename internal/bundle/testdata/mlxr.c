/* Stands for libmlxr. */
int mlxr_abi(void) { return 1; }
