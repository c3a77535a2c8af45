// The model of a training step against cases worked out by hand, which jsq-simulate(1) lets anybody repeat.
#include "tools/network_model.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace jsq::tools {
namespace {

constexpr double ms = 1e-3;
constexpr Network network{.alpha_seconds = 0.1 * ms, .bytes_per_second = 1e9};

TEST(ExchangeSeconds, AreThoseOfTheFormulas) {
  // 4 MB take 4 ms; a quarter of them 1 ms.
  EXPECT_NEAR(exchange_seconds(Exchange::ring, network, 4, 4e6, 0), 6 * 1.1 * ms, 1e-12);
  EXPECT_NEAR(exchange_seconds(Exchange::allgather, network, 4, 4e6, 0), 3 * 4.1 * ms, 1e-12);
  EXPECT_NEAR(exchange_seconds(Exchange::tree, network, 4, 4e6, 0), 4 * 4.1 * ms, 1e-12);
  EXPECT_NEAR(exchange_seconds(Exchange::tree, network, 5, 4e6, 0), 6 * 4.1 * ms, 1e-12);
  EXPECT_NEAR(exchange_seconds(Exchange::server, network, 4, 4e6, 1e6), (0.2 + 16 + 4) * ms, 1e-12);
}

TEST(ExchangeSeconds, OneWorkerHasNothingToSend) {
  for (Exchange exchange : {Exchange::ring, Exchange::tree, Exchange::allgather, Exchange::server})
    EXPECT_EQ(exchange_seconds(exchange, network, 1, 4e6, 4e6), 0);
}

TEST(ExchangeSeconds, ARingOfManyWorkersMovesTwoMessagesAndPaysLatencyForEachWorker) {
  const Network fast{.alpha_seconds = 0, .bytes_per_second = 1e9};
  EXPECT_NEAR(exchange_seconds(Exchange::ring, fast, 65536, 1e6, 0), 2 * ms, 1e-6);
  EXPECT_NEAR(exchange_seconds(Exchange::ring, network, 65536, 0, 0), 2 * 65535 * 0.1 * ms, 1e-9);
}

/// 30 ms forward, 60 ms backward, three buckets that are ready at 50, 70 and 90 ms.
TrainingStep three_buckets(bool overlap) {
  return {.compute_seconds = 90 * ms,
          .backward_share = 2.0 / 3,
          .gradient_bytes = 9e6,
          .bucket_bytes = 3e6,
          .overlap = overlap};
}

TEST(StepTime, BucketsHideBehindTheBackwardPassAsFarAsTheyCan) {
  // A ring of 2 with 3 MB: 2 (0.1 + 1.5) = 3.2 ms. Only the last bucket's exchange is seen.
  const Codec dense{.exchange = Exchange::ring, .message_bytes = 9e6};
  const StepTime time = step_time(three_buckets(true), dense, network, 2);
  EXPECT_NEAR(time.step_seconds, 93.2 * ms, 1e-9);
  EXPECT_NEAR(time.exchange_seconds, 9.6 * ms, 1e-9);
  EXPECT_EQ(time.codec_seconds, 0);
  EXPECT_NEAR(step_time(three_buckets(false), dense, network, 2).step_seconds, 99.6 * ms, 1e-9);
}

TEST(StepTime, ASlowNetworkQueuesBuckets) {
  // 30 ms a bucket: from 50 on 80, 110, 140 ms; without overlap from 90 on 120, 150, 180.
  const Network slow{.alpha_seconds = 0, .bytes_per_second = 1e8};
  const Codec dense{.exchange = Exchange::ring, .message_bytes = 9e6};
  EXPECT_NEAR(step_time(three_buckets(true), dense, slow, 2).step_seconds, 140 * ms, 1e-9);
  EXPECT_NEAR(step_time(three_buckets(false), dense, slow, 2).step_seconds, 180 * ms, 1e-9);
}

TEST(StepTime, EncoderNetworkAndDecoderAreAPipeline) {
  // Each bucket: 2 ms encode, allgather of 1 MB among 3 = 2 (0.1 + 1) = 2.2 ms, 3 messages of 1 ms to decode.
  // Ready 50, 70, 90: encoded 52, 72, 92; exchanged 54.2, 74.2, 94.2; done 57.2, 77.2, 97.2.
  const Codec codec{.exchange = Exchange::allgather,
                    .message_bytes = 3e6,
                    .encode_seconds = 6 * ms,
                    .decode_seconds = 3 * ms};
  const StepTime time = step_time(three_buckets(true), codec, network, 3);
  EXPECT_NEAR(time.step_seconds, 97.2 * ms, 1e-9);
  EXPECT_NEAR(time.codec_seconds, (6 + 9) * ms, 1e-9);
  // Without overlap the slowest stage, 3 ms to decode, sets the pace: 90 + 2 + 2.2 + 3 x 3.
  EXPECT_NEAR(step_time(three_buckets(false), codec, network, 3).step_seconds, 103.2 * ms, 1e-9);
}

TEST(StepTime, BucketsAreRoundedUp) {
  TrainingStep step = three_buckets(true);
  EXPECT_EQ(step.buckets(), 3u);
  step.gradient_bytes += 1;
  EXPECT_EQ(step.buckets(), 4u);
  step.gradient_bytes = 1;
  EXPECT_EQ(step.buckets(), 1u);
}

/// One bucket after the backward pass: step times are sums.
TrainingStep one_bucket(double gradient_bytes) {
  return {.compute_seconds = 0.05,
          .backward_share = 0.5,
          .gradient_bytes = gradient_bytes,
          .bucket_bytes = 1e12,
          .overlap = false};
}

TEST(BreakEvenBandwidth, IsWhereBothStepsTakeAsLong) {
  // 4 workers, S = 8 MB: the ring moves 12 MB, the gathered messages of 1 MB 3 MB; the codec takes 2 + 4 x
  // 0.25 = 3 ms: (12 - 3) MB beta = 3 ms at 3 GB/s.
  const Codec dense{.exchange = Exchange::ring, .message_bytes = 8e6};
  const Codec codec{.exchange = Exchange::allgather,
                    .message_bytes = 1e6,
                    .encode_seconds = 2 * ms,
                    .decode_seconds = 0.25 * ms};
  const auto even = break_even_bandwidth(one_bucket(8e6), codec, dense, {.alpha_seconds = 0}, 4);
  ASSERT_TRUE(even);
  EXPECT_NEAR(*even / 3e9, 1, 1e-6);
}

TEST(BreakEvenBandwidth, IsNoneForMoreBytesAndAnyForFewerWithoutACodec) {
  const Codec dense{.exchange = Exchange::ring, .message_bytes = 8e6};
  const Codec larger{.exchange = Exchange::ring, .message_bytes = 9e6};
  const Codec smaller{.exchange = Exchange::ring, .message_bytes = 7e6};
  EXPECT_FALSE(break_even_bandwidth(one_bucket(8e6), larger, dense, {.alpha_seconds = 0}, 8));
  EXPECT_TRUE(std::isinf(*break_even_bandwidth(one_bucket(8e6), smaller, dense, {.alpha_seconds = 0}, 8)));
}

TEST(StopsPaying, GatheringCostsMoreThanAllreduceFromTwiceTheRatioOn) {
  // (n - 1) m < 2 (n - 1) / n S for n < 2 S / m: with m = S / 8 up to 15 workers.
  const Codec dense{.exchange = Exchange::ring, .message_bytes = 8e6};
  const Codec gathered{.exchange = Exchange::allgather, .message_bytes = 1e6};
  EXPECT_EQ(stops_paying(one_bucket(8e6), gathered, dense, {.alpha_seconds = 0}, 65536), 16u);
  const Codec added{.exchange = Exchange::ring, .message_bytes = 1e6};
  EXPECT_FALSE(stops_paying(one_bucket(8e6), added, dense, {.alpha_seconds = 0}, 1000));
}

}  // namespace
}  // namespace jsq::tools
