// The rANS coder: exact reciprocals, one step and its inverse, and interleaved streams that end where they
// should.
#include "kernels/element/rans.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/rans_eights.hpp"
#include "kernels/cpu/rans_stream.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

using element::make_rans_symbol;
using element::RansSlot;
using element::RansSymbol;

TEST(RansSymbol, ReciprocalGivesExactQuotientsForEveryFrequencyAtExtremeStates) {
  test::Random random(1);
  for (uint32_t f = 1; f <= element::rans_total; ++f) {
    const RansSymbol symbol = make_rans_symbol(0, f);
    const uint64_t limit = uint64_t(f) << 20;  // states that are pushed are below this
    const auto check = [&](uint64_t x) {
      if (x >= limit || x > UINT32_MAX) return;
      const uint64_t expected = ((x / f) << 12) + x % f;
      ASSERT_EQ(element::rans_push(uint32_t(x), symbol), uint32_t(expected)) << f << ' ' << x;
    };
    for (uint64_t x :
         {uint64_t(0), uint64_t(1), uint64_t(65535), uint64_t(65536), uint64_t(65537), limit - 1, limit - 2})
      check(x);
    for (uint64_t quotient : {uint64_t(1), uint64_t(2), limit / f - 1, limit / f, uint64_t(65536) / f})
      for (int64_t d : {-1, 0, 1}) check(quotient * f + uint64_t(d));
    for (int i = 0; i < 50; ++i) check(random.below(limit));
    if (HasFatalFailure()) return;
  }
}

TEST(RansStep, AdvanceUndoesPushAndStatesStayInRange) {
  test::Random random(2);
  for (int i = 0; i < 300000; ++i) {
    const uint32_t frequency = 1 + uint32_t(random.below(element::rans_total));
    const uint32_t start = uint32_t(random.below(element::rans_total - frequency + 1));
    const uint32_t state =
        uint32_t(element::rans_lower_bound + random.below((1ull << 32) - element::rans_lower_bound));
    const bool word = element::rans_needs_word(state, frequency);
    const uint32_t reduced = word ? state >> 16 : state;
    ASSERT_FALSE(element::rans_needs_word(reduced, frequency));
    const uint32_t pushed = element::rans_push(reduced, make_rans_symbol(start, frequency));
    ASSERT_GE(pushed, element::rans_lower_bound);
    const uint32_t offset = (pushed & 4095) - start;
    ASSERT_LT(offset, frequency);
    const RansSlot slot = element::make_rans_slot(11, frequency, offset);
    ASSERT_EQ(element::rans_slot_symbol(slot), 11u);
    const uint32_t popped = element::rans_advance(pushed, slot);
    ASSERT_EQ(popped, reduced);
    ASSERT_EQ(popped < element::rans_lower_bound, word);
  }
}

/// A table of random frequencies over a random alphabet, as encode symbols and as decode slots.
struct Table {
  std::vector<uint32_t> alphabet;
  std::vector<RansSymbol> symbols = std::vector<RansSymbol>(16);
  std::vector<RansSlot> slots;
  uint32_t frequency[16] = {};
};

Table random_table(test::Random& random) {
  Table table;
  const uint32_t size = 1 + uint32_t(random.below(16));
  while (table.alphabet.size() < size) {
    const auto symbol = uint32_t(random.below(16));
    if (!table.frequency[symbol]) table.alphabet.push_back(symbol), table.frequency[symbol] = 1;
  }
  uint32_t left = element::rans_total - size;
  for (uint32_t symbol : table.alphabet) {
    const auto more = uint32_t(random.below(left + 1));
    table.frequency[symbol] += more;
    left -= more;
  }
  table.frequency[table.alphabet[0]] += left;
  uint32_t start = 0;
  for (uint32_t symbol = 0; symbol < 16; ++symbol) {
    table.symbols[symbol] = make_rans_symbol(start, table.frequency[symbol]);
    for (uint32_t i = 0; i < table.frequency[symbol]; ++i)
      table.slots.push_back(element::make_rans_slot(symbol, table.frequency[symbol], i));
    start += table.frequency[symbol];
  }
  return table;
}

/// A section: groups of `each` symbols, every group with a table of its own.
struct Section {
  size_t each = 1;
  std::vector<uint32_t> tables;  // of each group
  std::vector<uint8_t> symbols;
};

struct Stream {
  std::vector<RansSymbol> symbols;  // 16 of each table
  std::vector<RansSlot> slots;      // 4096 of each table
  std::vector<Section> sections;
  std::string bytes;
  double ideal_bits = 0;
};

Stream random_stream(test::Random& random, uint32_t lanes, size_t most_symbols = 700) {
  Stream stream;
  std::vector<Table> tables(1 + random.below(6));
  for (Table& table : tables) {
    table = random_table(random);
    stream.symbols.insert(stream.symbols.end(), table.symbols.begin(), table.symbols.end());
    stream.slots.insert(stream.slots.end(), table.slots.begin(), table.slots.end());
  }
  size_t count = 0;
  stream.sections.resize(1 + random.below(4));
  std::vector<std::vector<uint16_t>> ids(stream.sections.size());
  for (size_t s = 0; s < stream.sections.size(); ++s) {
    Section& section = stream.sections[s];
    section.each = 1 + random.below(32);
    section.tables.resize(random.below(4) == 0 ? 0 : random.below(most_symbols / section.each + 1));
    for (uint32_t& t : section.tables) {
      t = uint32_t(random.below(tables.size()));
      for (size_t i = 0; i < section.each; ++i) {
        // By frequency, so that the length can be held against the entropy.
        const uint32_t symbol = element::rans_slot_symbol(tables[t].slots[random.below(element::rans_total)]);
        stream.ideal_bits -= std::log2(double(tables[t].frequency[symbol]) / 4096);
        section.symbols.push_back(uint8_t(symbol));
        ids[s].push_back(uint16_t(16 * t + symbol));
      }
    }
    count += section.symbols.size();
  }
  cpu::RansEncoder encoder(lanes, count);
  for (size_t s = ids.size(); s-- > 0;) encoder.encode_section(ids[s], stream.symbols.data());
  encoder.finish(stream.bytes);
  return stream;
}

enum class How { one_by_one, indexed, groups, mixed };

/// Decodes `bytes` and returns whether it ended as it should; fills what was read.
bool decode(const Stream& stream, std::string_view bytes, uint32_t lanes, How how,
            std::vector<std::vector<uint8_t>>& read) {
  cpu::RansDecoder decoder(bytes, lanes);
  read.clear();
  for (const Section& section : stream.sections) {
    decoder.begin_section();
    const size_t n = section.symbols.size();
    std::vector<uint8_t> symbols(n);
    std::vector<uint8_t> of_group, of_symbol;
    for (uint32_t t : section.tables) {
      of_group.push_back(uint8_t(t));
      of_symbol.insert(of_symbol.end(), section.each, uint8_t(t));
    }
    const size_t alone = how == How::one_by_one ? n : how == How::mixed ? n / 3 : 0;
    for (size_t i = 0; i < alone; ++i)
      symbols[i] = uint8_t(decoder.next(stream.slots.data() + of_symbol[i] * element::rans_total));
    if (how == How::groups)
      decoder.next_groups(stream.slots.data(), of_group, section.each, symbols.data());
    else
      decoder.next_indexed(stream.slots.data(), of_symbol.data() + alone, symbols.data() + alone, n - alone);
    read.push_back(std::move(symbols));
  }
  return decoder.finished();
}

TEST(RansEights, AreTheStepsOfEightOrSixteenLanesOneByOneAtEverySimdLevel) {
  test::for_each_simd_level([] {
    test::Random random(3);
    for (int round = 0; round < 200; ++round) {
      // A second table behind the first: some groups of neighbours use both, others one alone.
      const Table tables[] = {random_table(random), random_table(random)};
      std::vector<element::RansSymbol> symbols(tables[0].symbols.begin(), tables[0].symbols.end());
      symbols.insert(symbols.end(), tables[1].symbols.begin(), tables[1].symbols.end());
      const size_t lanes = round % 3 == 2 ? 16 : 8, groups = random.below(60);
      std::vector<uint16_t> ids(lanes * groups);
      for (size_t i = 0; i < ids.size(); ++i) {
        const size_t of = lanes == 16 && i / 32 % 3 != 0 ? (i / 32 % 3 == 1 ? 1 : random.below(2)) : 0;
        ids[i] = uint16_t(16 * of +
                          element::rans_slot_symbol(tables[of].slots[random.below(element::rans_total)]));
      }
      std::vector<uint32_t> states(lanes), expected_states;
      for (uint32_t& state : states)
        state = uint32_t(element::rans_lower_bound + random.below((1ull << 32) - element::rans_lower_bound));
      expected_states = states;
      std::vector<uint16_t> expected;  // the last word first
      for (size_t i = ids.size(); i-- > 0;) {
        uint64_t x = expected_states[i % lanes];
        const uint64_t f = symbols[ids[i]].frequency, start = symbols[ids[i]].start;
        if (x >= f << 20) {
          expected.push_back(uint16_t(x));
          x >>= 16;
        }
        expected_states[i % lanes] = uint32_t(((x / f) << 12) + x % f + start);
      }
      for (bool small : {false, true}) {
        if (small && lanes == 16) continue;
        std::vector<uint16_t> words(lanes * groups + cpu::eights_slack);
        std::vector<uint32_t> ended = states;
        uint16_t* const end = words.data() + words.size();
        const uint16_t* first =
            lanes == 16 ? cpu::encode_sixteens(ids.data(), groups, symbols.data(), ended.data(), end)
            : small
                ? cpu::encode_eights_small(ids.data(), groups, symbols.data(), size_t(16), ended.data(), end)
                : cpu::encode_eights(ids.data(), groups, symbols.data(), ended.data(), end);
        ASSERT_EQ(std::vector<uint16_t>(first, const_cast<const uint16_t*>(end)),
                  std::vector<uint16_t>(expected.rbegin(), expected.rend()));
        ASSERT_EQ(ended, expected_states);
      }
    }
  });
}

TEST(RansStreams, AreTheSameBesideOthersAtEverySimdLevel) {
  test::for_each_simd_level([] {
    test::Random random(11);
    for (int round = 0; round < 120; ++round) {
      const uint32_t lanes = 1u << random.below(4);
      // The last table has one symbol, which changes nothing; streams that are shorter end with it.
      std::vector<RansSymbol> symbols;
      std::vector<cpu::SymbolStarts> starts = {cpu::make_symbol_starts(std::array<uint32_t, 16>{4096})};
      std::vector<Table> tables;
      for (size_t t = 0; t < 1 + random.below(4); ++t) {
        tables.push_back(random_table(random));
        symbols.insert(symbols.end(), tables.back().symbols.begin(), tables.back().symbols.end());
      }
      const auto nothing = uint16_t(symbols.size());
      symbols.resize(symbols.size() + 16, make_rans_symbol(0, element::rans_total));
      const size_t longest = 16 * random.below(60), streams = 1 + random.below(cpu::encoded_together);
      std::vector<cpu::RansEncoder> encoders;
      std::vector<std::string> expected;
      std::vector<std::vector<uint16_t>> ids(streams);
      const uint16_t* lists[cpu::encoded_together] = {};
      for (size_t k = 0; k < streams; ++k) {
        size_t t = 0;
        for (size_t i = 0; i < random.below(longest + 1); ++i) {
          if (i % 16 == 0 || round % 2) t = random.below(tables.size());
          ids[k].push_back(uint16_t(
              16 * t + element::rans_slot_symbol(tables[t].slots[random.below(element::rans_total)])));
        }
        cpu::RansEncoder alone(lanes, ids[k].size());
        alone.encode_section(ids[k], symbols.data());
        alone.finish(expected.emplace_back());
        encoders.emplace_back(lanes, ids[k].size());
        ids[k].resize(longest, nothing);
        lists[k] = ids[k].data();
      }
      const std::vector<cpu::SymbolGroup> groups = cpu::symbol_groups(symbols);
      cpu::RansEncoder::encode_sections(encoders, lists, longest, {symbols.data(), groups.data()});
      for (size_t k = 0; k < streams; ++k) {
        std::string bytes;
        encoders[k].finish(bytes);
        ASSERT_EQ(bytes, expected[k]) << k;
      }
    }
  });
}

TEST(RansDivision, IsExactAroundTheMultiplesOfEveryFrequency) {
  for (uint64_t f = 1; f <= element::rans_total; ++f) {
    const cpu::ExactDivision division = cpu::exact_division(uint32_t(f));
    const auto expect_exact = [&](uint64_t x) {
      ASSERT_EQ((x * division.multiplier + division.addend) >> division.shift, x / f) << x << " / " << f;
    };
    const uint64_t beyond = std::min<uint64_t>(f << 20, uint64_t(1) << 32);
    // A quotient is wrong at a multiple or just below one, and if anywhere, then at the largest ones.
    for (uint64_t k = 1; k < 300; ++k)
      for (uint64_t multiple : {k * f, (beyond / f - k) * f, (beyond / f / 300 * k) * f}) {
        if (multiple < beyond) expect_exact(multiple);
        if (multiple > 0 && multiple <= beyond) expect_exact(multiple - 1);
      }
  }
}

TEST(RansBeside, AreTheStepsOfFourOrEightStreamsOneByOneAtEverySimdLevel) {
  test::for_each_simd_level([] {
    test::Random random(6);
    for (int round = 0; round < 120; ++round) {
      const uint32_t lanes = 1u << random.below(4);
      // The first table has one symbol; streams that are shorter go on with it.
      const size_t each = 8 * (1 + random.below(4)), longest = random.below(40),
                   together = cpu::rans_together / (1 + random.below(2));
      std::vector<RansSymbol> symbols(16, make_rans_symbol(0, element::rans_total));
      std::vector<RansSlot> slots;
      for (uint32_t i = 0; i < element::rans_total; ++i)
        slots.push_back(element::make_rans_slot(0, element::rans_total, i));
      std::vector<cpu::SymbolStarts> starts = {cpu::make_symbol_starts(std::array<uint32_t, 16>{4096})};
      std::vector<Table> tables;
      for (size_t t = 0; t < 1 + random.below(5); ++t) {
        tables.push_back(random_table(random));
        symbols.insert(symbols.end(), tables.back().symbols.begin(), tables.back().symbols.end());
        slots.insert(slots.end(), tables.back().slots.begin(), tables.back().slots.end());
        starts.push_back(cpu::make_symbol_starts(tables.back().frequency));
      }
      const cpu::RansTables with{slots.data(), starts.data()};
      std::string bytes[cpu::rans_together];
      std::vector<uint8_t> expected[3][cpu::rans_together], numbers[2][cpu::rans_together];
      // Tables that follow from the symbol before; where it has none, the last one's.
      uint8_t following[16];
      for (uint8_t& t : following) t = uint8_t(1 + random.below(tables.size()));
      for (size_t k = 0; k < together; ++k) {
        std::vector<uint16_t> ids[3];
        const auto draw = [&](size_t part, uint8_t t) {
          const auto symbol =
              uint8_t(element::rans_slot_symbol(tables[t - 1].slots[random.below(element::rans_total)]));
          ids[part].push_back(uint16_t(16 * t + symbol));
          expected[part][k].push_back(symbol);
          return symbol;
        };
        uint8_t before = 0;
        for (size_t i = 0; i < longest; ++i) before = draw(0, following[before]);
        const size_t groups = random.below(longest + 1), alone = random.below(8 * longest + 1);
        for (size_t g = 0; g < groups; ++g) {
          numbers[0][k].push_back(uint8_t(1 + random.below(tables.size())));
          for (size_t i = 0; i < each; ++i) draw(1, numbers[0][k].back());
        }
        for (size_t i = 0; i < alone; ++i) {
          numbers[1][k].push_back(uint8_t(1 + random.below(tables.size())));
          draw(2, numbers[1][k].back());
        }
        numbers[0][k].resize(longest);
        numbers[1][k].resize(8 * longest);
        cpu::RansEncoder encoder(lanes, ids[0].size() + ids[1].size() + ids[2].size());
        for (size_t part = 3; part-- > 0;) encoder.encode_section(ids[part], symbols.data());
        encoder.finish(bytes[k]);
        bytes[k].append(cpu::rans_padding, '\0');
      }
      std::vector<cpu::RansDecoder> decoders;
      for (size_t k = 0; k < together; ++k)
        decoders.emplace_back(std::string_view(bytes[k]).substr(0, bytes[k].size() - cpu::rans_padding),
                              lanes);
      for (size_t part = 0; part < 3; ++part) {
        cpu::EightLanes streams[cpu::rans_together];
        std::vector<uint8_t> read[cpu::rans_together];
        uint8_t* out[cpu::rans_together];
        const uint8_t* of[cpu::rans_together];
        for (size_t k = 0; k < together; ++k) {
          decoders[k].begin_section();
          streams[k] = decoders[k].lend();
          read[k].resize(longest * std::max<size_t>(each, 8));
          out[k] = read[k].data();
          if (part > 0) of[k] = numbers[part - 1][k].data();
        }
        if (part == 0)
          cpu::decode_following_beside(with, lanes, {streams, together}, following, longest, out);
        else if (part == 1)
          cpu::decode_groups_beside(with, lanes, {streams, together}, of, longest, each, out);
        else
          cpu::decode_symbols_beside(with, lanes, {streams, together}, of, longest, out);
        for (size_t k = 0; k < together; ++k) {
          decoders[k].take_back(streams[k]);
          read[k].resize(expected[part][k].size());
          ASSERT_EQ(read[k], expected[part][k]) << "part " << part << " stream " << k;
        }
      }
      for (const cpu::RansDecoder& decoder : decoders) ASSERT_TRUE(decoder.finished());
    }
  });
}

class RansStream : public testing::TestWithParam<uint32_t> {};

TEST_P(RansStream, DecodesWhatWasEncodedSymbolBySymbolAndInBulk) {
  test::Random random(GetParam());
  for (int round = 0; round < 300; ++round) {
    const Stream stream = random_stream(random, GetParam());
    std::vector<std::vector<uint8_t>> read;
    for (How how : {How::one_by_one, How::indexed, How::groups, How::mixed}) {
      ASSERT_TRUE(decode(stream, stream.bytes, GetParam(), how, read)) << int(how);
      for (size_t s = 0; s < read.size(); ++s) ASSERT_EQ(read[s], stream.sections[s].symbols);
    }
  }
}

TEST_P(RansStream, TakesItsEntropyAndAtMostItsStatesMore) {
  test::Random random(50 + GetParam());
  for (int round = 0; round < 20; ++round) {
    const Stream stream = random_stream(random, GetParam(), 30000);
    const double bits = 8.0 * double(stream.bytes.size());
    ASSERT_GE(bits, 0.999 * stream.ideal_bits);
    ASSERT_LE(bits, 1.001 * stream.ideal_bits + 32.0 * GetParam());
  }
}

TEST_P(RansStream, IsNotFinishedWhenTruncatedOrExtended) {
  test::Random random(100 + GetParam());
  for (int round = 0; round < 20; ++round) {
    const Stream stream = random_stream(random, GetParam());
    std::vector<std::vector<uint8_t>> read;
    for (size_t size = 0; size < stream.bytes.size(); ++size)
      ASSERT_FALSE(
          decode(stream, std::string_view(stream.bytes).substr(0, size), GetParam(), How::indexed, read))
          << size;
    for (size_t more = 1; more < 6; ++more)
      ASSERT_FALSE(decode(stream, stream.bytes + std::string(more, '\0'), GetParam(), How::indexed, read))
          << more;
  }
}

TEST_P(RansStream, WithoutSymbolsIsTheStatesAlone) {
  cpu::RansEncoder encoder(GetParam(), 0);
  encoder.encode_section({}, nullptr);
  std::string bytes;
  encoder.finish(bytes);
  std::string expected;
  for (uint32_t lane = 0; lane < GetParam(); ++lane) expected += std::string("\0\0\1\0", 4);
  EXPECT_EQ(bytes, expected);
  EXPECT_TRUE(cpu::RansDecoder(bytes, GetParam()).finished());
}

TEST_P(RansStream, SurvivesAnyBytes) {
  test::Random random(200 + GetParam());
  Stream stream = random_stream(random, GetParam());
  std::vector<std::vector<uint8_t>> read;
  for (int round = 0; round < 300; ++round) {
    std::string bytes(random.below(200), '\0');
    for (char& byte : bytes) byte = char(random.word());
    decode(stream, bytes, GetParam(), How(round % 4), read);
    for (const auto& section : read)
      for (uint8_t symbol : section) ASSERT_LT(symbol, 16);
  }
}

INSTANTIATE_TEST_SUITE_P(Lanes, RansStream, testing::Values(1, 2, 4, 8, 16));

}  // namespace
}  // namespace jsq
