// Writes the golden frames: small frames that cover what an encoder can write, through the public API alone.
// What they decode to is not said here: an independent decoder computes that (make_golden.sh).
//
//   make_golden OUT_FOLDER SAMPLES_FOLDER
#include <algorithm>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/gradients.hpp"
#include "jsq/method.hpp"
#include "jsq/target.hpp"
#include "jsq/tensor.hpp"

namespace {

/// A dump in memory, its elements as stored bytes, so that every element type and every bit pattern is
/// possible.
class MemoryDump final : public jsq::GradientSource {
 public:
  explicit MemoryDump(jsq::DumpFormat format) { dump_.format = format; }

  MemoryDump& add(jsq::TensorInfo info, std::vector<std::byte> stored_le) {
    tensors_.push_back(std::move(info));
    stored_.push_back(std::move(stored_le));
    return *this;
  }
  void attach(std::string attachment) { dump_.attachment = std::move(attachment); }

  const jsq::DumpInfo& dump() const override { return dump_; }
  const std::vector<jsq::TensorInfo>& tensors() const override { return tensors_; }
  std::span<const float> read(size_t t, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    scratch.resize(count);
    jsq::decode_elements(tensors_[t].dtype, false,
                         stored_[t].data() + first * jsq::dtype_bytes(tensors_[t].dtype), scratch);
    return scratch;
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    const size_t size = jsq::dtype_bytes(tensors_[t].dtype);
    if (count > 0) std::memcpy(out, stored_[t].data() + first * size, count * size);
  }

 private:
  jsq::DumpInfo dump_;
  std::vector<jsq::TensorInfo> tensors_;
  std::vector<std::vector<std::byte>> stored_;
};

using Dump = std::shared_ptr<MemoryDump>;

std::vector<std::byte> stored(jsq::DType dtype, std::span<const float> values) {
  std::vector<std::byte> bytes(values.size() * jsq::dtype_bytes(dtype));
  jsq::encode_elements(dtype, values, bytes.data());
  return bytes;
}

/// Overwrites element `index` with the low bytes of `bits`.
void poke(std::vector<std::byte>& bytes, jsq::DType dtype, size_t index, uint64_t bits) {
  std::memcpy(bytes.data() + index * jsq::dtype_bytes(dtype), &bits, jsq::dtype_bytes(dtype));
}

jsq::TensorInfo info(std::string name, std::vector<uint64_t> shape, jsq::DType dtype = jsq::DType::f32) {
  jsq::TensorInfo tensor;
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
  tensor.dtype = dtype;
  return tensor;
}

Dump npy(jsq::TensorInfo tensor, std::vector<std::byte> bytes) {
  auto dump = std::make_shared<MemoryDump>(jsq::DumpFormat::npy);
  dump->add(std::move(tensor), std::move(bytes));
  return dump;
}
Dump npy(jsq::TensorInfo tensor, std::span<const float> values) {
  const jsq::DType dtype = tensor.dtype;
  return npy(std::move(tensor), stored(dtype, values));
}
Dump npy(std::span<const float> values) {
  return npy(info("", {values.size()}), values);
}

/// A real gradient (a ResNet-20 in mid-training), of which most frames hold a slice.
std::vector<float> read_sample(const std::string& path) {
  const auto source = jsq::open_gradients(path);
  std::vector<float> scratch;
  const auto values = source->read(0, 0, size_t(source->tensors()[0].elements()), scratch);
  return {values.begin(), values.end()};
}

class Golden {
 public:
  Golden(std::filesystem::path folder, std::vector<float> real)
      : folder_(std::move(folder)), real_(std::move(real)) {}

  std::span<const float> real(size_t first, size_t count) const {
    return std::span(real_).subspan(first, count);
  }

  using Tweak = std::function<void(jsq::CompressOptions&)>;
  void frame(const std::string& name, const std::string& method, const std::string& target,
             std::vector<jsq::InputDump> inputs, const Tweak& tweak = {}) const {
    jsq::CompressOptions options;
    options.method = jsq::parse_method(method);
    options.target = jsq::parse_target(target);
    options.seed = 20;
    if (tweak) tweak(options);
    jsq::MemorySink sink;
    jsq::compress(inputs, options, sink);
    std::ofstream file(folder_ / (name + ".jsq"), std::ios::binary);
    file.write(sink.bytes.data(), std::streamsize(sink.bytes.size()));
    file.close();
    if (!file) throw std::runtime_error("cannot write " + (folder_ / name).string());
  }
  /// One dump.
  void frame(const std::string& name, const std::string& method, const std::string& target, Dump dump,
             const Tweak& tweak = {}) const {
    frame(name, method, target, std::vector<jsq::InputDump>{{"grad.npy", std::move(dump)}}, tweak);
  }

 private:
  std::filesystem::path folder_;
  std::vector<float> real_;
};

void element_types(const Golden& golden) {
  for (const jsq::DType dtype : {jsq::DType::f16, jsq::DType::bf16, jsq::DType::f32, jsq::DType::f64})
    for (const bool big_endian : {false, true})
      for (const bool fortran : {false, true}) {
        jsq::TensorInfo tensor = info("", {12, 5, 8}, dtype);
        tensor.big_endian = big_endian;
        tensor.fortran_order = fortran;
        golden.frame("dtype_" + std::string(jsq::dtype_name(dtype)) + (big_endian ? "_big" : "_little") +
                         (fortran ? "_fortran" : "_c"),
                     "jointsq", "bpw=4", npy(tensor, golden.real(1000, 480)));
      }
}

void shapes(const Golden& golden) {
  const std::vector<float> one = {-0.0078125f};
  golden.frame("shape_scalar", "jointsq", "bytes=200", npy(info("", {}), one));
  golden.frame("shape_one", "jointsq", "bytes=200", npy(info("", {1}), one));
  golden.frame("shape_empty", "jointsq", "bytes=200", npy(info("", {0, 5}), std::span<const float>()));
  golden.frame("shape_8d", "jointsq", "bytes=200",
               npy(info("", {1, 2, 3, 1, 2, 5, 1, 1}), golden.real(5000, 60)));
  golden.frame("two_blocks", "jointsq", "bpw=2.1", npy(golden.real(100000, 70000)));
  golden.frame("two_blocks_planes", "jointsq:map=rice,values=planes", "bpw=2.1",
               npy(golden.real(100000, 70000)));
  golden.frame("large_blocks", "jointsq", "ratio=700", npy(golden.real(0, 269722)));
}

void dumps(const Golden& golden) {
  const std::vector<float> zeros(200), scalar = {0.125f};
  auto several = std::make_shared<MemoryDump>(jsq::DumpFormat::npz);
  jsq::TensorInfo fortran = info("conv.weight", {10, 30}, jsq::DType::f16);
  fortran.fortran_order = true;
  several->add(fortran, stored(fortran.dtype, golden.real(20000, 300)));
  several->add(info("empty", {3, 0}), {});
  several->add(info("scale", {}), stored(jsq::DType::f32, scalar));
  several->add(info("frozen", {200}), stored(jsq::DType::f32, zeros));
  jsq::TensorInfo deflated = info("fc.weight", {10, 20}, jsq::DType::f64);
  deflated.attachment = std::string(1, '\x01');  // a deflated member
  several->add(deflated, stored(deflated.dtype, golden.real(30000, 200)));
  several->attach(std::string("\x06golden", 7));  // an archive comment

  golden.frame("several_tensors", "jointsq", "ratio=3", {{"step.npz", several}});
  golden.frame("several_dumps", "jointsq", "ratio=4",
               {{"a/grad.npy", npy(golden.real(0, 400))},
                {"b/grad.npy", npy(golden.real(400, 400))},
                {"step.npz", several},
                {"c.npy", npy(info("", {20, 20}, jsq::DType::bf16), golden.real(800, 400))}});
  golden.frame("chosen_tensors", "jointsq", "ratio=2",
               std::vector<jsq::InputDump>{{"step.npz", several, {0, 4}, false}});
  golden.frame("scope_tensor", "jointsq", "ratio=2.5",
               {{"a.npy", npy(golden.real(0, 600))}, {"b.npy", npy(golden.real(200000, 500))}},
               [](jsq::CompressOptions& o) { o.scope = jsq::Scope::tensor; });
  golden.frame("metadata", "jointsq", "ratio=3", npy(golden.real(3000, 300)), [](jsq::CompressOptions& o) {
    o.metadata = {{"step", "12"}, {"model", "ResNet-20"}, {"empty", ""}, {"text", "\xc3\xa9t\xc3\xa9"}};
    o.seed = 0xfedcba9876543210u;
  });

  auto many = std::make_shared<MemoryDump>(jsq::DumpFormat::npz);
  for (size_t layer = 0; layer < 40; ++layer)
    many->add(info("features.layer" + std::to_string(layer) + ".weight", {8, 8}),
              stored(jsq::DType::f32, golden.real(layer * 5000, 64)));
  golden.frame("many_tensors", "jointsq", "ratio=6", {{"step.npz", many}});
}

void packers(const Golden& golden) {
  for (const std::string map : {"raw", "bitmap", "rice", "entropy"})
    for (const std::string values : {"planes", "entropy"})
      golden.frame("map_" + map + "_values_" + values, "jointsq:map=" + map + ",values=" + values, "ratio=5",
                   npy(golden.real(50000, 900)));
  // Lanes depend on the size of a block: 1, 2, 4 or 8.
  for (const size_t count : {size_t(500), size_t(1500), size_t(5000), size_t(16000)})
    golden.frame("lanes_" + std::to_string(count), "jointsq:map=entropy,values=entropy", "bpw=3",
                 npy(golden.real(60000, count)));
}

void quantizers(const Golden& golden) {
  for (const std::string quantizer : {"cell", "mid", "offmag", "sym"})
    for (const std::string values : {"planes", "entropy"})
      for (const jsq::Rounding rounding : {jsq::Rounding::nearest, jsq::Rounding::stochastic}) {
        if (quantizer == "cell" && rounding == jsq::Rounding::stochastic) continue;
        golden.frame("quant_" + quantizer + "_" + values +
                         (rounding == jsq::Rounding::nearest ? "_nearest" : "_stochastic"),
                     "jointsq:quant=" + quantizer + ",values=" + values, "bpw=5",
                     npy(golden.real(70000, 700)), [&](jsq::CompressOptions& o) { o.rounding = rounding; });
      }
  for (const std::string widths : {"0248", "0", "012345678", "248", "08", "4", "1", "34"})
    for (const std::string values : {"planes", "entropy"})
      golden.frame("widths_" + widths + "_" + values, "jointsq:widths=" + widths + ",values=" + values,
                   "bpw=10", npy(golden.real(80000, 600)));
  golden.frame("widths_248_mid_entropy_map", "jointsq:widths=248,quant=mid,map=entropy", "bpw=6",
               npy(golden.real(80000, 600)));
  golden.frame("widths_4_entropy_map", "jointsq:widths=4,map=entropy", "bpw=8", npy(golden.real(80000, 300)));
}

void allocators(const Golden& golden) {
  for (const std::string allocator : {"exact", "literal", "sampled"})
    golden.frame("alloc_" + allocator, "jointsq:sample=0.2,alloc=" + allocator, "ratio=8",
                 npy(golden.real(90000, 1200)));
  for (const std::string reallocation : {"paper", "hill"})
    golden.frame("realloc_" + reallocation, "jointsq:realloc=" + reallocation, "ratio=8",
                 npy(golden.real(90000, 1200)));
}

void special_values(const Golden& golden) {
  const std::vector<float> zeros(1000), constant(777, 0.25f);
  golden.frame("values_zero", "jointsq", "ratio=40", npy(zeros));
  golden.frame("values_constant", "jointsq", "ratio=8", npy(constant));
  std::vector<float> signs(300), subnormal(300), huge(300);
  const float top = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min();
  for (size_t i = 0; i < signs.size(); ++i) {
    signs[i] = i % 3 == 0 ? 0.0f : i % 3 == 1 ? -0.0f : i % 2 ? 1.0f : -1.0f;
    subnormal[i] = tiny * float(i * i % 97) * (i % 2 ? 1.0f : -1.0f);
    huge[i] = top / float(1 + i % 7) * (i % 2 ? 1.0f : -1.0f);
  }
  golden.frame("values_signs", "jointsq", "bpw=6", npy(signs));
  for (const std::string quantizer : {"cell", "mid", "offmag", "sym"}) {
    golden.frame("values_subnormal_" + quantizer, "jointsq:quant=" + quantizer, "bpw=9", npy(subnormal));
    golden.frame("values_huge_" + quantizer, "jointsq:quant=" + quantizer, "bpw=9", npy(huge));
  }
  std::vector<float> largest(100);
  for (const jsq::DType dtype : {jsq::DType::f16, jsq::DType::bf16}) {
    const float limit = dtype == jsq::DType::f16 ? 65504.0f : 3.38953139e38f;
    for (size_t i = 0; i < largest.size(); ++i)
      largest[i] = limit * (i % 2 ? -1.0f : 1.0f) / float(1 + i % 3);
    golden.frame("values_largest_" + std::string(jsq::dtype_name(dtype)), "jointsq:quant=offmag", "bpw=16",
                 npy(info("", {100}, dtype), largest));
  }
}

void non_finite(const Golden& golden) {
  struct Case {
    jsq::DType dtype;
    std::vector<uint64_t> bits;  // quiet and signalling NaN with payloads, both infinities
  };
  const std::vector<Case> cases = {
      {jsq::DType::f16, {0x7e01, 0xfd55, 0x7c00, 0xfc00}},
      {jsq::DType::bf16, {0x7fc1, 0xffa5, 0x7f80, 0xff80}},
      {jsq::DType::f32, {0x7fc12345, 0xff812345, 0x7f800000, 0xff800000}},
      {jsq::DType::f64, {0x7ff8000000012345, 0xfff0123456789abc, 0x7ff0000000000000, 0xfff0000000000000}},
  };
  for (const Case& c : cases)
    for (const auto policy : {jsq::NonFinitePolicy::zero, jsq::NonFinitePolicy::keep}) {
      std::vector<std::byte> bytes = stored(c.dtype, golden.real(40000, 400));
      const size_t where[] = {0, 1, 63, 399};  // the ends and two neighbours
      for (size_t i = 0; i < 4; ++i) poke(bytes, c.dtype, where[i], c.bits[i]);
      golden.frame("nonfinite_" + std::string(policy == jsq::NonFinitePolicy::zero ? "zero_" : "keep_") +
                       std::string(jsq::dtype_name(c.dtype)),
                   "jointsq", "bpw=5", npy(info("", {400}, c.dtype), bytes),
                   [&](jsq::CompressOptions& o) { o.nonfinite = policy; });
    }
  golden.frame("nonfinite_only", "jointsq", "bytes=200",
               npy(std::vector<float>(5, std::numeric_limits<float>::infinity())),
               [](jsq::CompressOptions& o) { o.nonfinite = jsq::NonFinitePolicy::keep; });
}

/// The name of a method's frame: "qsgd_bits_8_coder_fixed" for "qsgd:bits=8,coder=fixed".
std::string frame_name(std::string method) {
  for (char& c : method)
    if (c == ':' || c == ',' || c == '=')
      c = '_';
    else if (c == '/')
      c = '-';
  return method;
}

/// All methods but jointsq; the sparse ones keep enough of small tensors.
const std::vector<std::string> methods = {"fp32",
                                          "fp16",
                                          "bf16",
                                          "qsgd",
                                          "nuqsgd",
                                          "natural",
                                          "terngrad",
                                          "signsgd",
                                          "ef-signsgd",
                                          "onebit",
                                          "topk:density=0.1",
                                          "randk:density=0.2",
                                          "dgc:density=0.1",
                                          "qlsgd:density=0.2",
                                          "acsgd",
                                          "mcgq",
                                          "gqsgd-std",
                                          "gqsgd-exp",
                                          "thc",
                                          "powersgd",
                                          "acpsgd",
                                          "lgreco"};

/// Their options that change the stored form.
const std::vector<std::string> variants = {
    "qsgd:bits=2,coder=elias-sparse",
    "qsgd:bits=4,coder=fixed",
    "qsgd:bits=4,coder=elias-dense",
    "qsgd:levels=100,bucket=37,coder=fixed",
    "qsgd:bits=16,coder=elias-dense",
    "qsgd:levels=5,bucket=0,norm=l2",
    "nuqsgd:levels=1,coder=entropy",
    "nuqsgd:levels=7,coder=fixed",
    "nuqsgd:levels=127,bucket=0,coder=elias-dense",
    "nuqsgd:levels=7,zero=off,coder=fixed",
    "nuqsgd:levels=3,zero=off,norm=linf,bucket=100,coder=elias-sparse",
    "nuqsgd:levels=3,zero=off,coder=entropy",
    "natural:coder=entropy",
    "natural:bits=4",
    "natural:bits=2,coder=elias-sparse",
    "terngrad:coder=base243",
    "terngrad:coder=elias-dense",
    "terngrad:clip=0,coder=entropy",
    "signsgd:scale=mean",
    "onebit:group=row",
    "onebit:group=col",
    "onebit:group=bucket,bucket=64",
    "topk:density=0.05,map=raw32",
    "topk:density=0.1,map=packed,values=f16",
    "topk:density=0.2,map=bitmap,values=bf16",
    "topk:density=0.05,map=rice",
    "topk:density=0.1,map=entropy",
    "topk:density=0.1,map=packed,values=q1",
    "topk:density=0.1,map=rice,values=q2,quant=mid",
    "topk:density=0.3,map=bitmap,values=q4,quant=sym",
    "topk:density=0.5,map=entropy,values=q8,quant=offmag",
    "topk:density=0.2,map=entropy,values=q5",
    "topk:density=1",
    "topk:k=1",
    "randk:density=0.1,scale=off",
    "randk:density=0.1,values=f16,scale=on",
    "randk:density=0.1,values=bf16",
    "randk:density=1",
    "randk:k=1",
    "dgc:density=0.05,threshold=sampled,values=bf16,map=packed",
    "qlsgd:density=0.2,bits=8,map=raw32",
    "qlsgd:density=0.1,bits=2,scale-beta=on,map=bitmap",
    "qlsgd:density=0.2,bits=16,map=entropy",
    "qlsgd:density=0.2,bits=4,select=randk",
    "qlsgd:density=0.2,bits=8,select=randk,scale-beta=off",
    "acsgd:variant=author,map=rice",
    "acsgd:variant=jointsq,map=packed",
    "mcgq:samples=0.1,coder=elias-sparse",
    "mcgq:samples=4,coder=fixed",
    "mcgq:samples=64,coder=elias-dense",
    "mcgq:samples=2,coder=entropy",
    "gqsgd-std:bits=8,workers=5",
    "gqsgd-std:bits=8,workers=5,bucket=100,coder=entropy",
    "gqsgd-std:bits=6,workers=3,variant=code",
    "gqsgd-exp:bits=2,workers=8",
    "gqsgd-exp:bits=7,workers=1000,coder=entropy",
    "gqsgd-exp:bits=4,workers=3,bucket=100,coder=elias-dense",
    "thc:bits=1,coder=fixed",
    "thc:bits=3,norm=block,block=64,coder=fixed",
    "thc:bits=8,p=1/65536,coder=entropy",
    "thc:bits=4,table=g34,block=65536,p=1/1024",
    "thc:bits=4,table=g42,block=1,p=1/4",
    "thc:bits=4,table=uniform,norm=block,block=256,coder=entropy",
    "powersgd:rank=1,factor=f16",
    "powersgd:rank=5,iters=3",
    "powersgd:rank=20,dense-below=0",
    "acpsgd:rank=1",
    "acpsgd:rank=3,factor=f16",
    "acpsgd:rank=20,dense-below=0",
    "lgreco:base=topk",
    "lgreco:base=powersgd",
};

void method_options(const Golden& golden) {
  for (const std::string& method : variants)
    golden.frame(frame_name(method), method, "native", npy(info("", {35, 20}), golden.real(10000, 700)));
  // Tokens with 4, 3 and 2 fixed bits; 1, 2, 4 and 8 lanes; one token alone.
  for (const std::string bits : {"4", "8", "14"})
    golden.frame("tokens_" + bits + "_bits", "qsgd:coder=entropy,bits=" + bits, "native",
                 npy(golden.real(120000, 500)));
  for (const size_t count : {size_t(900), size_t(1800), size_t(3600)})
    golden.frame("tokens_" + std::to_string(count), "qsgd:coder=entropy,bits=8", "native",
                 npy(golden.real(120000, count)));
  golden.frame("tokens_alike", "qsgd:coder=entropy,bits=8", "native", npy(std::vector<float>(50, -0.25f)));
}

/// Every method on all element types, a matrix in Fortran order, a scalar, zeros, and a tensor without
/// elements.
void method_archives(const Golden& golden) {
  const std::vector<float> zeros(200), scalar = {-0.125f};
  auto archive = std::make_shared<MemoryDump>(jsq::DumpFormat::npz);
  archive->add(info("f32", {9, 37}), stored(jsq::DType::f32, golden.real(0, 333)));
  archive->add(info("zeros", {20, 10}), stored(jsq::DType::f32, zeros));
  archive->add(info("f16", {100}, jsq::DType::f16), stored(jsq::DType::f16, golden.real(40000, 100)));
  archive->add(info("empty", {0, 3}), {});
  jsq::TensorInfo big_endian = info("bf16", {10, 4, 3}, jsq::DType::bf16);
  big_endian.big_endian = true;
  archive->add(big_endian, stored(jsq::DType::bf16, golden.real(50000, 120)));
  archive->add(info("scalar", {}), stored(jsq::DType::f32, scalar));
  jsq::TensorInfo fortran = info("f64", {12, 15}, jsq::DType::f64);
  fortran.fortran_order = true;
  archive->add(fortran, stored(jsq::DType::f64, golden.real(60000, 180)));
  std::vector<std::string> texts = methods;
  texts.insert(texts.end(), {"onebit:group=row", "onebit:group=col", "qsgd:bucket=0", "terngrad:coder=auto"});
  for (const std::string& method : texts)
    golden.frame("archive_" + frame_name(method), method, "native", {{"step.npz", archive}});
}

/// Two blocks, the first with a short last bucket.
void method_blocks(const Golden& golden) {
  for (const std::string method :
       {"qsgd:bits=2,bucket=1000", "terngrad:coder=base243", "ef-signsgd", "onebit:group=col",
        "topk:density=0.01", "topk:density=0.005,map=packed,values=q3", "randk:density=0.01",
        "qlsgd:density=0.05,map=entropy", "qlsgd:density=0.01,select=randk", "acsgd:map=bitmap",
        "mcgq:samples=0.05", "thc:bits=1", "powersgd:rank=2", "acpsgd:rank=3,factor=f16"})
    golden.frame("two_blocks_" + frame_name(method), method, "native",
                 npy(info("", {700, 100}), golden.real(100000, 70000)));
}

/// The ends of binary32, and of the other element types.
void method_ranges(const Golden& golden) {
  std::vector<float> huge(150), subnormal(150);
  for (size_t i = 0; i < huge.size(); ++i) {
    const float sign = i % 2 ? 1.0f : -1.0f;
    huge[i] = std::numeric_limits<float>::max() / float(1 + i % 7) * sign;
    subnormal[i] = std::numeric_limits<float>::denorm_min() * float(i * i % 97) * sign;
  }
  const jsq::TensorInfo matrix = info("", {10, 15});
  std::vector<std::string> texts = methods;
  texts.insert(texts.end(),
               {"qsgd:norm=l2,bucket=0", "nuqsgd:zero=off", "natural:bits=4", "onebit:group=bucket",
                "gqsgd-std:bits=6,workers=3,variant=code", "gqsgd-exp:workers=5"});
  for (const std::string& method : texts) {
    golden.frame("huge_" + frame_name(method), method, "native", npy(matrix, huge));
    golden.frame("subnormal_" + frame_name(method), method, "native", npy(matrix, subnormal));
  }
  for (const jsq::DType dtype : {jsq::DType::f16, jsq::DType::bf16})
    for (const std::string method : {"natural", "signsgd:scale=mean", "gqsgd-exp:workers=5",
                                     "topk:density=0.5", "randk:density=0.5", "thc", "powersgd"})
      golden.frame("huge_" + std::string(jsq::dtype_name(dtype)) + "_" + frame_name(method), method, "native",
                   npy(info("", {10, 15}, dtype), huge));
}

/// rdoq: every layout of scales, raw bits and escapes, one lane, eight and sixteen, the pack, layers, columns
/// in the parameters, exact copies.
void context_streams(const Golden& golden) {
  const std::span<const float> conv = golden.real(5136, 2304), wide = golden.real(20000, 4800);
  for (const std::string target : {"bpw=8", "bpw=4", "bpw=1.2", "maxabs=1e-5", "nmse=0.01"})
    golden.frame("rdoq_conv_" + frame_name(target), "rdoq:transform=none,levels=independent", target,
                 npy(info("", {16, 16, 3, 3}), conv));
  for (const bool fortran : {false, true}) {
    jsq::TensorInfo tensor = info("", {60, 80});
    tensor.fortran_order = fortran;
    golden.frame(std::string("rdoq_matrix_") + (fortran ? "fortran" : "c"), "rdoq:preset=fast", "bpw=2",
                 npy(tensor, wide));
  }
  for (const std::string target : {"bpw=2", "bpw=0.3", "bpw=0.03"})
    golden.frame("rdoq_flat_" + frame_name(target), "rdoq:transform=none,levels=independent", target,
                 npy(golden.real(0, 40000)));
  for (const std::string levels : {"independent", "dependent"})
    golden.frame("rdoq_sixteen_lanes_" + levels, "rdoq:preset=fast,levels=" + levels, "bpw=2.6",
                 npy(golden.real(0, 40000)));

  auto archive = std::make_shared<MemoryDump>(jsq::DumpFormat::npz);
  archive->add(info("conv", {16, 16, 3, 3}), stored(jsq::DType::f32, conv));
  archive->add(info("zeros", {20}), std::vector<std::byte>(80));
  archive->add(info("half", {40, 30}, jsq::DType::f16), stored(jsq::DType::f16, golden.real(40000, 1200)));
  archive->add(info("empty", {0, 3}), {});
  archive->add(info("scalar", {}), stored(jsq::DType::f32, std::vector<float>{-0.125f}));
  archive->add(info("bias", {64}), stored(jsq::DType::f32, golden.real(60000, 64)));
  for (const std::string target : {"bpw=4", "bpw=1"})
    golden.frame("rdoq_pack_" + frame_name(target), "rdoq:transform=none,levels=independent", target,
                 {{"step.npz", archive}});

  // Dependent levels: raw bits, escapes and eight lanes, ranges that begin anew in a pack, predictions and
  // cosine transforms.
  for (const std::string target : {"bpw=8", "bpw=1.2", "nmse=0.01"})
    golden.frame("rdoq_dependent_conv_" + frame_name(target), "rdoq:levels=dependent", target,
                 npy(info("", {16, 16, 3, 3}), conv));
  golden.frame("rdoq_dependent_flat", "rdoq:levels=dependent", "bpw=2", npy(golden.real(0, 40000)));
  golden.frame("rdoq_dependent_pack", "rdoq:levels=dependent", "bpw=4", {{"step.npz", archive}});
  golden.frame("rdoq_best_conv", "rdoq:preset=best", "bpw=2", npy(info("", {16, 16, 3, 3}), conv));

  jsq::InputDump layered{"grad.npy", npy(golden.real(0, 5136))};
  layered.layers[0] = {{16, 3, 3, 3}, {16}, {16}, {16, 16, 3, 3}, {16}, {16}, {16, 16, 3, 3}, {16}, {16}};
  golden.frame("rdoq_layers", "rdoq:transform=none,levels=independent", "bpw=1",
               std::vector<jsq::InputDump>{layered});

  // More than one block, so that what columns there are stands in the parameters; most of it is below the
  // lowest context.
  std::vector<float> large(1100 * 1000);
  for (size_t i = 0; i < large.size(); ++i)
    large[i] = golden.real(100000 + i % 130001, 1)[0] * float(1 + i / 1000 % 3) / float(1 + i % 7);
  golden.frame("rdoq_two_blocks", "rdoq:preset=fast", "bpw=0.04", npy(info("", {1100, 1000}), large));
  for (size_t i = 0; i < large.size(); ++i)
    large[i] = golden.real(100000 + i % 130001, 1)[0] / float(1 << i % 1000 * 7919 % 13);
  golden.frame("rdoq_two_blocks_columns", "rdoq:preset=fast", "bpw=0.04", npy(info("", {1100, 1000}), large));

  std::vector<float> sparse(3000), ternary(3000),
      outlier(golden.real(0, 500).begin(), golden.real(0, 500).end());
  for (size_t i = 0; i < sparse.size(); i += 37) sparse[i] = golden.real(i, 1)[0];
  for (size_t i = 0; i < ternary.size(); ++i) ternary[i] = float(int(i * i % 3) - 1) * 0.75f;
  outlier[100] = 3e38f;
  golden.frame("rdoq_exact_sparse", "rdoq:transform=none,levels=independent", "bpw=3",
               npy(info("", {60, 50}), sparse));
  golden.frame("rdoq_exact_ternary", "rdoq:transform=none,levels=independent", "bpw=3",
               npy(info("", {60, 50}), ternary));
  golden.frame("rdoq_outlier", "rdoq:transform=none,levels=independent", "nmse=1e-9", npy(outlier));
  golden.frame("rdoq_zeros", "rdoq:transform=none,levels=independent", "bpw=3", npy(std::vector<float>(300)));

  // Where all values have one sign no sign is stored: a constant, exact copies, escapes and raw bits,
  // dependent levels.
  std::vector<float> squares(golden.real(0, 3000).begin(), golden.real(0, 3000).end()), below(3000);
  for (float& g : squares) g *= g;
  for (size_t i = 0; i < below.size(); i += 11) below[i] = -std::abs(golden.real(i, 1)[0]);
  golden.frame("rdoq_constant", "rdoq:levels=independent", "bpw=1",
               npy(info("", {60, 50}), std::vector<float>(3000, -0.01f)));
  golden.frame("rdoq_squares_bpw_6", "rdoq:transform=none,levels=independent", "bpw=6", npy(squares));
  golden.frame("rdoq_squares_bpw_1", "rdoq:preset=fast", "bpw=1", npy(squares));
  golden.frame("rdoq_dependent_squares", "rdoq:levels=dependent", "bpw=6", npy(squares));
  golden.frame("rdoq_negative", "rdoq:transform=none,levels=independent", "bpw=4", npy(below));
}

/// A sum of `rank` outer products and a little noise.
std::vector<float> low_rank(const Golden& golden, size_t rows, size_t columns, size_t rank) {
  std::vector<float> values(golden.real(70000, rows * columns).begin(),
                            golden.real(70000, rows * columns).end());
  for (size_t j = 0; j < rank; ++j) {
    const std::span<const float> left = golden.real(90000 + 5000 * j, rows),
                                 right = golden.real(92000 + 5000 * j, columns);
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < columns; ++c) values[r * columns + c] += 600.0f * left[r] * right[c];
  }
  return values;
}

/// rdoq's transforms: kernels of several shapes, factors of matrices in both orders, of kernels, and of
/// kernels without a cosine transform; parts that share frequency offsets.
void transforms(const Golden& golden) {
  const auto smooth = [&](size_t kernels, size_t side) {
    std::vector<float> values(golden.real(5136, kernels * side * side).begin(),
                              golden.real(5136, kernels * side * side).end());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = 0.2f * values[i] + golden.real(120000 + i / (side * side), 1)[0];
    return values;
  };
  for (const std::string mode : {"dct", "lowrank", "auto"})
    for (const std::string target : {"bpw=4", "bpw=0.5", "nmse=0.02"}) {
      auto archive = std::make_shared<MemoryDump>(jsq::DumpFormat::npz);
      archive->add(info("conv", {16, 16, 3, 3}), stored(jsq::DType::f32, smooth(256, 3)));
      archive->add(info("conv2", {12, 10, 3, 3}), stored(jsq::DType::f32, smooth(120, 3)));
      archive->add(info("lines", {8, 6, 1, 7}, jsq::DType::f16),
                   stored(jsq::DType::f16, golden.real(3000, 336)));
      archive->add(info("wide", {6, 5, 11, 11}), stored(jsq::DType::f32, low_rank(golden, 30, 121, 2)));
      archive->add(info("matrix", {48, 64}), stored(jsq::DType::f32, low_rank(golden, 48, 64, 3)));
      jsq::TensorInfo fortran = info("fortran", {40, 56});
      fortran.fortran_order = true;
      archive->add(fortran, stored(jsq::DType::f32, low_rank(golden, 40, 56, 2)));
      archive->add(info("column", {64, 1}), stored(jsq::DType::f32, golden.real(500, 64)));
      archive->add(info("bias", {64}), stored(jsq::DType::f32, golden.real(60000, 64)));
      golden.frame("rdoq_" + mode + "_" + frame_name(target),
                   "rdoq:transform=" + mode + ",levels=independent", target, {{"step.npz", archive}});
    }
  golden.frame("rdoq_volumes", "rdoq:levels=independent", "bpw=2",
               npy(info("", {6, 4, 2, 3, 4}), smooth(144, 2)));
  std::vector<float> both = smooth(60 * 50, 3);
  for (size_t i = 0; i < both.size(); ++i)
    both[i] += 600.0f * golden.real(90000 + i / 450, 1)[0] * golden.real(95000 + i % 450, 1)[0];
  golden.frame("rdoq_kernels_of_low_rank", "rdoq:preset=best", "bpw=0.3",
               npy(info("", {60, 50, 3, 3}), both));
}

/// The frame that section 9 of SPEC.md explains byte by byte.
void spec_example(const Golden& golden) {
  const std::vector<float> values = {0.5f, -0.125f, 0.0f,    1.0f, -2.0f,  0.25f,
                                     0.0f, -0.5f,   0.0625f, 3.0f, -0.25f, 0.75f};
  golden.frame("spec_example", "jointsq:map=raw,values=planes", "ratio=8", npy(info("", {3, 4}), values),
               [](jsq::CompressOptions& o) {
                 o.ratio_kind = jsq::RatioKind::payload;
                 o.seed = 7;
               });
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: make_golden OUT_FOLDER SAMPLES_FOLDER\n";
    return 2;
  }
  const Golden golden(argv[1], read_sample(std::string(argv[2]) + "/resnet20_mid.npy"));
  element_types(golden);
  shapes(golden);
  dumps(golden);
  packers(golden);
  quantizers(golden);
  allocators(golden);
  special_values(golden);
  non_finite(golden);
  method_options(golden);
  method_archives(golden);
  method_blocks(golden);
  method_ranges(golden);
  context_streams(golden);
  transforms(golden);
  spec_example(golden);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "make_golden: " << error.what() << "\n";
  return 1;
}
