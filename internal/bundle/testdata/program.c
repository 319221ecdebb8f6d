/* Stands for the main executable of an app. */
#ifdef LINKED
int mlxr_abi(void);
#else
static int mlxr_abi(void) { return 0; }
#endif
int main(void) { return mlxr_abi(); }
