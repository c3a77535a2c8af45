/* Loaded before the C library: write() and pwrite() do at most half of what they are asked to, and every
 * third call is interrupted before it begins, as the system may do at any time. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned calls;

static size_t some(size_t count) {
  return count > 1 ? count / 2 : count;
}

ssize_t write(int fd, const void* bytes, size_t count) {
  if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return syscall(SYS_write, fd, bytes, some(count));
}

ssize_t pwrite64(int fd, const void* bytes, size_t count, off_t offset) {
  if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return syscall(SYS_pwrite64, fd, bytes, some(count), offset);
}

ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) {
  return pwrite64(fd, bytes, count, offset);
}
