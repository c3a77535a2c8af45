// The disk as HDF5 sees it while jsq writes: one that never fails. HDF5 1.10 cannot close a file after a
// failed write (it crashes at the end of the program), so this file driver keeps what the disk refused in
// memory, tells HDF5 that all is well, and leaves the error for the sink, which stops at once. Reading dumps
// uses HDF5's own driver.
#pragma once

#include "formats/hdf5/hdf5_handle.hpp"

namespace jsq::hdf5 {

/// The first error of the disk, as an errno value; 0 while all is well. Must outlive the file.
struct DiskFailure {
  int error = 0;
};

/// Makes files opened with the access list `list` report their errors to `failure`.
/// \pre a Session lives.  \throws Error internal.
void write_through_disk(hid_t list, DiskFailure& failure);

}  // namespace jsq::hdf5
