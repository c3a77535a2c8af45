// How libjsq finds what the module with HDF5 offers.
#pragma once

namespace jsq {

/// Beside libjsq, or in its folder of modules: libjsq's run path tells where.
constexpr const char* hdf5_module_name = "jsq_hdf5.so";
/// A function of the module: const Hdf5Functions*().
constexpr const char* hdf5_module_entry = "jsq_hdf5_functions";

}  // namespace jsq
