// Gradients of several steps and workers, however they were dumped: a [steps, workers, d] data set, HDF5
// groups by step and worker, or a file for each step or each worker. All have the same tensors; what does not
// fit is named by step, worker and tensor.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jsq/compress.hpp"

namespace jsq::tools {

/// What several files stand for where nothing in them says so.
enum class FileAxis : uint8_t { steps, workers };

class Sequence {
 public:
  /// Opens the dumps. Files of a folder or a glob come in the order of the numbers in their names (step9
  /// before step10). `layers`: a JSON file with the shapes of the layers that flat gradients join; they
  /// become tensors of their own. "" for none. \throws Error not_found, read_failed, unsupported_format,
  /// unsupported_dtype, damaged as open_gradients does; usage where steps, workers or tensors do not fit
  /// together.
  static Sequence open(const std::vector<std::string>& arguments, FileAxis axis, const std::string& layers);

  size_t steps() const noexcept { return grid_.size(); }
  size_t workers() const noexcept { return grid_.empty() ? 0 : grid_.front().cells.size(); }
  /// Those of every step and worker, in order.
  const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }
  uint64_t elements() const noexcept { return elements_; }
  uint64_t stored_bytes() const noexcept { return stored_bytes_; }
  /// As the dump calls it: "step003", a file's name, or the number in a data set.
  const std::string& step_name(size_t step) const { return grid_[step].name; }
  const std::string& worker_name(size_t step, size_t worker) const { return grid_[step].cells[worker].name; }

  /// One worker's gradient of one step as a dump of its own.
  InputDump dump(size_t step, size_t worker) const;
  /// The same tensor after tensor as f32.  \throws Error read_failed, damaged.
  std::vector<float> values(size_t step, size_t worker) const;

 private:
  /// Elements of a tensor of an open dump that are a tensor here.
  struct Slice {
    std::shared_ptr<const GradientSource> source;
    size_t tensor = 0;
    uint64_t first = 0;
    TensorInfo info;
  };
  struct Cell {
    std::string name;
    std::vector<Slice> slices;
  };
  struct Step {
    std::string name;
    std::vector<Cell> cells;  ///< by worker
  };
  class SliceSource;

  static std::vector<Step> read_grid(const std::string& argument, bool only_dump);
  static std::vector<Step> stacked(const std::shared_ptr<const GradientSource>& source, size_t tensor);
  void append(std::vector<Step> steps, FileAxis axis, const std::string& argument);
  void split_layers(const std::string& file);
  void require_equal_tensors();
  void require_same_workers(const Step& step) const;
  void require_same_tensors(const Step& step, const Cell& cell) const;

  std::vector<Step> grid_;
  std::vector<TensorInfo> tensors_;
  uint64_t elements_ = 0, stored_bytes_ = 0;
};

}  // namespace jsq::tools
