// How much of each input cell an output cell covers when an axis shrinks: OpenCV's INTER_AREA, to the last
// bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "frames.h"

namespace fastrl {

class OwnedAreaWeights {
 public:
  // 1 <= out <= in.
  OwnedAreaWeights(int64_t in, int64_t out) : in_(in), out_(out), first_(static_cast<size_t>(out)) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    width_ = static_cast<int64_t>(std::ceil(scale)) + 1;
    weight_.assign(static_cast<size_t>(width_ * out), 0.0f);
    for (int64_t i = 0; i < out; ++i) {
      const double begin = static_cast<double>(i) * scale, end = begin + scale;
      const double cell = std::min(scale, static_cast<double>(in) - begin);
      const int64_t whole_end = std::min(static_cast<int64_t>(std::floor(end)), in - 1);
      const int64_t whole = std::min(static_cast<int64_t>(std::ceil(begin)), whole_end);
      const double before = static_cast<double>(whole) - begin, after = end - static_cast<double>(whole_end);
      const bool starts_inside = before > kNegligible;
      first_[static_cast<size_t>(i)] = static_cast<int32_t>(starts_inside ? whole - 1 : whole);
      int64_t t = 0;
      const auto add = [&](double share) {
        weight_[static_cast<size_t>(t++ * out + i)] = static_cast<float>(share);
      };
      if (starts_inside) add(before / cell);
      for (int64_t j = whole; j < whole_end; ++j) add(1.0 / cell);
      if (after > kNegligible) add(std::min({after, 1.0, cell}) / cell);
    }
  }

  AreaWeights view() const { return {in_, out_, width_, first_.data(), weight_.data()}; }

 private:
  static constexpr double kNegligible = 1e-3;  // of a cell
  int64_t in_, out_, width_;
  std::vector<int32_t> first_;
  std::vector<float> weight_;
};

}  // namespace fastrl
