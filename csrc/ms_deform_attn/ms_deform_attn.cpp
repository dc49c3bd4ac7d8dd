// CPU kernels of multi-scale deformable attention: panels of values, from which a head's queries read.
#include "ms_deform_attn/ms_deform_attn.h"

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "ms_deform_attn/placed_points.h"
#include "ms_deform_attn/short_rows.h"
#include "ms_deform_attn/tap_sums.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr int64_t kQueries = MsDeformAttnParams::kQueries;
constexpr int kMostVectors = 4;  // whose sums stay in registers

// Calls body with 1, 2, 3 or 4 as a constant.
template <class Body>
void for_vectors(int64_t vectors, Body&& body) {
  switch (vectors) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    case 3:
      return body(std::integral_constant<int, 3>());
    default:
      return body(std::integral_constant<int, 4>());
  }
}

// The outputs of a block of queries, (queries, channels of the panel).
template <int Taps>
void sum_block(const MsDeformAttnParams& p, const PlacedPoints& points, const float* panel, int64_t queries,
               float* out) {
  const int64_t channels = panel_channels(p);
  const PointArrays arrays(points);
  for (int64_t channel = 0; channel < channels; channel += kMostVectors * kLanes) {
    for_vectors(std::min<int64_t>((channels - channel) / kLanes, kMostVectors), [&](auto vectors) {
      constexpr int kVectors = decltype(vectors)::value;
      const auto sum_all = [&](auto stride) {
        for (int64_t query = 0; query < queries; ++query) {
          const int64_t row = query * p.total_points;
          sum_taps<Taps, kVectors>(arrays, panel + channel, stride, row, row + p.total_points,
                                   out + query * channels + channel);
        }
      };
      channels == kVectors* kLanes ? sum_all(std::integral_constant<int, 0>()) : sum_all(channels);
    });
  }
}

// Backward of a block of queries. Without a panel of values only the task's points and channels count.
template <int Taps, int Vectors, bool to_value, bool to_points>
void spread_block(const MsDeformAttnParams& p, const PlacedPoints& points, const TapPanels& panels, const float* grad,
                  int64_t grad_channels, int64_t queries, int64_t first_point, int64_t last_point, float* products) {
  const PointArrays arrays(points);
  for (int64_t query = 0; query < queries; ++query) {
    const int64_t row = query * p.total_points;
    spread_taps<Taps, Vectors, to_value, to_points>(arrays, panels, grad + query * grad_channels, row + first_point,
                                                    row + last_point, products);
  }
}

template <int Taps, bool to_value, bool to_points, class... Arguments>
void spread_block(const MsDeformAttnParams& p, const PlacedPoints& points, const TapPanels& panels,
                  const Arguments&... arguments) {
  switch (panels.vectors) {
    case 1:
      return spread_block<Taps, 1, to_value, to_points>(p, points, panels, arguments...);
    case 2:
      return spread_block<Taps, 2, to_value, to_points>(p, points, panels, arguments...);
    case 4:
      return spread_block<Taps, 4, to_value, to_points>(p, points, panels, arguments...);
    default:
      return spread_block<Taps, 0, to_value, to_points>(p, points, panels, arguments...);
  }
}

template <int Taps, class... Arguments>
void spread_block(const MsDeformAttnParams& p, const PlacedPoints& points, const TapPanels& panels,
                  const Arguments&... arguments) {
  if (panels.grads == nullptr) return spread_block<Taps, false, true>(p, points, panels, arguments...);
  if (panels.values == nullptr) return spread_block<Taps, true, false>(p, points, panels, arguments...);
  spread_block<Taps, true, true>(p, points, panels, arguments...);
}

}  // namespace

void ms_deform_attn_pack(const MsDeformAttnParams& p, float* panel, int64_t unit, int64_t first_level,
                         int64_t last_level) {
  const int64_t channels = panel_channels(p), image = unit / p.heads, head = unit % p.heads;
  for_float_type(p.value_dtype, [&](auto type) {
    const auto* values = static_cast<const decltype(type)*>(p.value) + image * p.image_stride + head * p.head_stride;
    PanelLayout(p).for_levels(p, [&](int64_t level, int64_t height, int64_t width, int64_t first, int64_t cell) {
      if (level < first_level || level >= last_level) return;
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x, ++cell) {
          load_row(values + cell * p.cell_stride, p.channels, panel + (first + y * (width + 1) + x) * channels);
        }
      }
    });
  });
}

void ms_deform_attn_fwd(const MsDeformAttnParams& p, const float* panel, int64_t unit, int64_t first, int64_t last) {
  const int64_t channels = panel_channels(p), image = unit / p.heads, head = unit % p.heads;
  PlacedPoints points(p);
  AlignedVector<float> sums(kQueries * channels);
  for (int64_t block = first; block < last; ++block) {
    const int64_t query = block * kQueries, queries = std::min(kQueries, p.queries - query);
    points.place(image, head, query, queries);
    p.discrete ? sum_block<1>(p, points, panel, queries, sums.data())
               : sum_block<4>(p, points, panel, queries, sums.data());
    for_float_type(p.value_dtype, [&](auto type) {
      auto* out = static_cast<decltype(type)*>(p.out) + ((image * p.queries + query) * p.heads + head) * p.channels;
      for (int64_t i = 0; i < queries; ++i) {
        store_row(sums.data() + i * channels, p.channels, out + i * p.heads * p.channels);
      }
    });
  }
}

void ms_deform_attn_bwd(const MsDeformAttnParams& p, const MsDeformAttnTask& task) {
  const int64_t image = task.unit / p.heads, head = task.unit % p.heads;
  const int64_t count = task.last_channel - task.first_channel, vectors = (count + kLanes - 1) / kLanes;
  const TapPanels panels = {task.panel, task.grad_panel, vectors};
  const int64_t first_point = std::accumulate(p.points, p.points + task.first_level, int64_t{0});
  const int64_t last_point = std::accumulate(p.points, p.points + task.last_level, int64_t{0});
  PlacedPoints points(p);
  AlignedVector<float> grad(kQueries * vectors * kLanes), products(4 * kQueries * p.total_points + kLanes);
  for (int64_t block = task.first_block; block < task.last_block; ++block) {
    const int64_t query = block * kQueries, queries = std::min(kQueries, p.queries - query);
    points.place(image, head, query, queries);
    for_float_type(p.value_dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(p.grad) +
                         ((image * p.queries + query) * p.heads + head) * p.channels + task.first_channel;
      for (int64_t i = 0; i < queries; ++i) {
        load_row(from + i * p.heads * p.channels, count, grad.data() + i * vectors * kLanes);
      }
    });
    const auto run = [&](auto spread) {
      spread(p, points, panels, grad.data(), vectors * kLanes, queries, first_point, last_point, products.data());
    };
    p.discrete ? run([](const auto&... arguments) { spread_block<1>(arguments...); })
               : run([](const auto&... arguments) { spread_block<4>(arguments...); });
    if (task.panel != nullptr) {
      points.differentiate(products.data(), queries);
      points.write_gradients(image, head, query, queries);
    }
  }
}

void ms_deform_attn_unpack(const MsDeformAttnParams& p, const MsDeformAttnTask& task) {
  const int64_t image = task.unit / p.heads, head = task.unit % p.heads;
  const int64_t row = p.heads * p.channels, count = task.last_channel - task.first_channel;
  const int64_t channels = (count + kLanes - 1) / kLanes * kLanes;
  for_float_type(p.value_dtype, [&](auto type) {
    auto* grads =
        static_cast<decltype(type)*>(p.grad_value) + image * p.cells * row + head * p.channels + task.first_channel;
    PanelLayout(p).for_levels(p, [&](int64_t level, int64_t height, int64_t width, int64_t first, int64_t cell) {
      if (level < task.first_level || level >= task.last_level) return;
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x, ++cell) {
          store_row(task.grad_panel + (first + y * (width + 1) + x) * channels, count, grads + cell * row);
        }
      }
    });
  });
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
