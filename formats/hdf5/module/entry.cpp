// What the module jsq_hdf5.so shows: the table, and nothing else. Its name is hdf5_module_entry of
// module.hpp.
#include "formats/hdf5/hdf5.hpp"

extern "C" __attribute__((visibility("default"))) const jsq::Hdf5Functions* jsq_hdf5_functions() {
  return &jsq::hdf5_functions();
}
