# Writes sources/metal_sources.h: the kernels' sources as text, for MLX to compile.
set(metal_sources "")
foreach(kernel activation add_layer_norm attention attention_first)
  file(READ metal/${kernel}.metal source)
  string(APPEND metal_sources "constexpr char ${kernel}[] = R\"metal(${source})metal\";\n")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS metal/${kernel}.metal)
endforeach()
file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/sources/metal_sources.h" @ONLY CONTENT
"// Made by metal/sources.cmake.
namespace mlxrank::metal_kernels::sources {
@metal_sources@} // namespace mlxrank::metal_kernels::sources
")
