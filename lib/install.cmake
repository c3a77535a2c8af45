# What `cmake --install` puts in place for libjsq, and which symbols the shared library shows. The program with its
# schemas and completions, and the man pages, are installed by the folders that make them.
include(CMakePackageConfigHelpers)

# Templates of the standard library that libjsq instantiates have default visibility; the map hides them too.
target_link_options(jsq PRIVATE -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/jsq.map -Wl,--no-undefined-version)
set_property(TARGET jsq APPEND PROPERTY LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/jsq.map)

install(TARGETS jsq EXPORT jsqTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${CMAKE_CURRENT_LIST_DIR}/include/jsq DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# CMake package: find_package(jsq) gives jsq::jsq. The dependencies are private, so consumers need none of them.
set(jsq_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/jsq)
install(EXPORT jsqTargets NAMESPACE jsq:: DESTINATION ${jsq_package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/jsqConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/jsqConfig.cmake
  INSTALL_DESTINATION ${jsq_package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/jsqConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/jsqConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/jsqConfigVersion.cmake
  DESTINATION ${jsq_package_dir})

# pkg-config: the prefix is found from where the file lies, so an installed tree can be moved.
file(RELATIVE_PATH jsq_prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/jsq.pc.in ${CMAKE_CURRENT_BINARY_DIR}/jsq.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/jsq.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The format's specification.
install(FILES ${PROJECT_SOURCE_DIR}/formats/SPEC.md DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)
