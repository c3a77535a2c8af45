// The time of powersgd and acpsgd beside that of the plain products that they need: prints the table "Low
// rank beside Eigen's products" of kernels/README.md. One thread, medians of 30 runs in turn, ns an element.
#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "jsq/compress.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class Work>
double seconds(Work work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> times) {
  std::nth_element(times.begin(), times.begin() + long(times.size() / 2), times.end());
  return times[times.size() / 2];
}

void row(long rows, long columns, long rank) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  RowMajor g(rows, columns), product(rows, columns);
  for (long i = 0; i < g.size(); ++i) g.data()[i] = normal(random);
  Eigen::MatrixXf q = Eigen::MatrixXf::Random(columns, rank), p(rows, rank), r(columns, rank);
  jsq::TensorInfo info;
  info.name = "g";
  info.shape = {uint64_t(rows), uint64_t(columns)};
  const std::vector<jsq::InputDump> input = {
      {"g.npy", jsq::source_of(info, {g.data(), size_t(g.size())}), {}, true}};
  jsq::MemorySink frame;
  const auto code = [&](const char* name) {
    jsq::CompressOptions options;
    options.method = jsq::parse_method(std::string(name) + ":rank=" + std::to_string(rank));
    options.target = jsq::default_target(options.method);
    options.threads = 1;
    return seconds([&] {
      frame.bytes.clear();  // its memory is reused, as a program would
      jsq::compress(input, options, frame);
    });
  };
  std::vector<double> two, third, powersgd, acpsgd;  // G q and G^T p, p q^T, the methods
  for (int run = 0; run < 30; ++run) {
    two.push_back(seconds([&] {
      p.noalias() = g * q;
      r.noalias() = g.transpose() * p;
    }));
    third.push_back(seconds([&] { product.noalias() = p * r.transpose(); }));
    powersgd.push_back(code("powersgd"));
    acpsgd.push_back(code("acpsgd"));
  }
  const double unit = 1e9 / double(g.size()), a = median(two) * unit, b = median(third) * unit;
  const double power = median(powersgd) * unit, acp = median(acpsgd) * unit;
  std::printf("| %ld x %ld | %ld | %.2f | %.2f | %.2f (%.1f, %.1f) | %.2f (%.1f, %.1f) |\n", rows, columns,
              rank, a, b, power, power / a, power / (a + b), acp, acp / a, acp / (a + b));
}

}  // namespace

int main() {
  std::puts(
      "| matrix | rank | G q, G^T p | p q^T | powersgd | acpsgd |\n| --- | --- | --- | --- | --- | --- |");
  for (const auto& [rows, columns] : {std::pair{1024L, 1024L}, {512L, 4608L}, {256L, 2304L}, {64L, 576L}})
    for (long rank : {1, 2, 4, 8}) row(rows, columns, rank);
}
