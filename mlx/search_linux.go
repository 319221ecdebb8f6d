package mlx

const libraryFile = "libmlxrank.so"
