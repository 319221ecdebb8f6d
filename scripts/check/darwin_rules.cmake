# CMake asks the host's sw_vers whether run paths are known; there is none here.
set(CMAKE_SHARED_LIBRARY_RUNTIME_C_FLAG "-Wl,-rpath,")
