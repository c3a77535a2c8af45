// The file driver of the sink; see hdf5_disk.hpp.
#include "formats/hdf5/hdf5_disk.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <vector>

namespace jsq::hdf5 {

namespace {

/// What an access list carries to the driver.
struct DriverInfo {
  DiskFailure* failure;
};

/// Bytes that the disk refused; later ones win where they overlap.
struct Refused {
  haddr_t address;
  std::vector<unsigned char> bytes;
};

struct DiskFile : H5FD_t {
  DiskFile() : H5FD_t{} {}
  int descriptor = -1;
  DiskFailure* failure = nullptr;
  haddr_t end_of_allocation = 0;
  haddr_t end_of_file = 0;
  std::vector<Refused> refused;
};

constexpr haddr_t largest_address = haddr_t(std::numeric_limits<off_t>::max());

DiskFile& file_of(H5FD_t* file) {
  return *static_cast<DiskFile*>(file);
}
const DiskFile& file_of(const H5FD_t* file) {
  return *static_cast<const DiskFile*>(file);
}

int write_all(int descriptor, haddr_t address, size_t size, const char* from) {
  while (size > 0) {
    const ssize_t written = pwrite(descriptor, from, size, off_t(address));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return ENOSPC;
    from += written;
    address += haddr_t(written);
    size -= size_t(written);
  }
  return 0;
}

/// Reads what is there and zeros behind the end.
int read_all(int descriptor, haddr_t address, size_t size, char* to) {
  while (size > 0) {
    const ssize_t got = pread(descriptor, to, size, off_t(address));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    to += got;
    address += haddr_t(got);
    size -= size_t(got);
  }
  std::memset(to, 0, size);
  return 0;
}

extern "C" {

H5FD_t* disk_open(const char* name, unsigned, hid_t list, haddr_t) noexcept {
  const auto* info = static_cast<const DriverInfo*>(H5Pget_driver_info(list));
  if (info == nullptr) return nullptr;
  const int descriptor = ::open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    info->failure->error = errno;
    return nullptr;
  }
  auto* file = new (std::nothrow) DiskFile;
  if (file == nullptr) {
    ::close(descriptor);
    return nullptr;
  }
  file->descriptor = descriptor;
  file->failure = info->failure;
  return file;
}

herr_t disk_close(H5FD_t* base) noexcept {
  DiskFile& file = file_of(base);
  // Some file systems report a failed write only here.
  if (::close(file.descriptor) != 0 && file.failure->error == 0) file.failure->error = errno;
  delete &file;
  return 0;
}

herr_t disk_query(const H5FD_t*, unsigned long* flags) noexcept {
  if (flags != nullptr)
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t disk_get_eoa(const H5FD_t* file, H5FD_mem_t) noexcept {
  return file_of(file).end_of_allocation;
}

herr_t disk_set_eoa(H5FD_t* file, H5FD_mem_t, haddr_t address) noexcept {
  file_of(file).end_of_allocation = address;
  return 0;
}

haddr_t disk_get_eof(const H5FD_t* file, H5FD_mem_t) noexcept {
  return file_of(file).end_of_file;
}

herr_t disk_read(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) noexcept {
  DiskFile& file = file_of(base);
  char* to = static_cast<char*>(buffer);
  const int error = read_all(file.descriptor, address, size, to);
  if (error != 0 && file.failure->error == 0) file.failure->error = error;
  for (const Refused& piece : file.refused) {
    const haddr_t from = std::max(address, piece.address);
    const haddr_t end = std::min(address + size, piece.address + piece.bytes.size());
    if (from < end)
      std::memcpy(to + (from - address), piece.bytes.data() + (from - piece.address), end - from);
  }
  return 0;
}

herr_t disk_write(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size,
                  const void* buffer) noexcept {
  DiskFile& file = file_of(base);
  file.end_of_file = std::max(file.end_of_file, address + size);
  if (file.failure->error == 0)
    file.failure->error = write_all(file.descriptor, address, size, static_cast<const char*>(buffer));
  if (file.failure->error == 0) return 0;
  try {
    const auto* bytes = static_cast<const unsigned char*>(buffer);
    file.refused.push_back({address, {bytes, bytes + size}});
  } catch (...) {
    return -1;
  }
  return 0;
}

herr_t disk_truncate(H5FD_t* base, hid_t, hbool_t) noexcept {
  DiskFile& file = file_of(base);
  if (file.end_of_allocation == file.end_of_file) return 0;
  if (file.failure->error == 0 && ftruncate(file.descriptor, off_t(file.end_of_allocation)) != 0)
    file.failure->error = errno;
  file.end_of_file = file.end_of_allocation;
  return 0;
}

}  // extern "C"

H5FD_class_t driver_class() {
  constexpr H5FD_mem_t free_lists[] = H5FD_FLMAP_DICHOTOMY;
  H5FD_class_t driver{};
  driver.name = "jsq";
  driver.maxaddr = largest_address;
  driver.fc_degree = H5F_CLOSE_WEAK;
  driver.fapl_size = sizeof(DriverInfo);
  driver.open = disk_open;
  driver.close = disk_close;
  driver.query = disk_query;
  driver.get_eoa = disk_get_eoa;
  driver.set_eoa = disk_set_eoa;
  driver.get_eof = disk_get_eof;
  driver.read = disk_read;
  driver.write = disk_write;
  driver.truncate = disk_truncate;
  std::copy(std::begin(free_lists), std::end(free_lists), driver.fl_map);
  return driver;
}

}  // namespace

void write_through_disk(hid_t list, DiskFailure& failure) {
  const Place place{Errc::internal, "HDF5", ""};
  static const H5FD_class_t driver = driver_class();
  static hid_t id = H5I_INVALID_HID;
  // Registered once; again if the surrounding program has closed the library since.
  if (id < 0 || H5Iis_valid(id) <= 0 || H5Iget_type(id) != H5I_VFL)
    id = require(H5FDregister(&driver), place, "register a file driver");
  const DriverInfo info{&failure};
  require(H5Pset_driver(list, id, &info), place, "choose a file driver");
}

}  // namespace jsq::hdf5
