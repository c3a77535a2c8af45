# `cpack --config build/CPackConfig.cmake` (or the target `package`) makes a Debian package of everything that is installed:
# program, library, headers, manual, completions, schemas and the Python module. Included last, after all install rules.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME jsq)
set(CPACK_PACKAGE_VENDOR jsq)
set(CPACK_PACKAGE_CONTACT "jsq developers <jsq@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "gradient compression toolkit")
set(CPACK_PACKAGE_DESCRIPTION
  "Compresses gradient dumps (npy, npz, HDF5), says what that lost, and gives them\n\
 back. The program jsq with its manual, libjsq for C++ and C with headers, and\n\
 the Python module jsq.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR}/lib)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "python3, python3-numpy")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "gnuplot-nox, pkg-config, g++")
# The dynamic linker learns of libjsq.so.0 when the package comes and goes.
file(WRITE ${CMAKE_BINARY_DIR}/package/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/package/triggers)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
