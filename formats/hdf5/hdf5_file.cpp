#include "formats/hdf5/hdf5_file.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace jsq::hdf5 {

void check_file(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) throw Error(Errc::not_found, path + ": " + std::strerror(errno));
  if (!S_ISREG(status.st_mode))
    throw Error(Errc::unsupported_format,
                path + ": is not a regular file; HDF5 needs one, so save it to a file first");
}

Handle open_file(const std::string& path) {
  const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
  if (is_hdf5 == 0)
    throw Error(Errc::unsupported_format,
                path + ": is not an HDF5 file (its signature is missing); check the file's origin");
  if (is_hdf5 < 0) fail({Errc::not_found, path, ""}, "open the file");
  const Handle access(
      require(H5Pcreate(H5P_FILE_ACCESS), {Errc::internal, path, ""}, "make a property list"));
  require(H5Pset_fapl_sec2(access), {Errc::internal, path, ""}, "choose its file driver");
  // Locks keep a writer out, but file systems without locks are read all the same.
  require(H5Pset_file_locking(access, true, true), {Errc::internal, path, ""}, "set file locking");
  return Handle(
      require(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), {Errc::damaged, path, ""}, "open the file"));
}

}  // namespace jsq::hdf5
