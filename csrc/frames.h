// Frames: stacks of the last ones, grey and smaller ones. The same bits on every instruction set.
#pragma once

#include <cstdint>

namespace fastrl {

// A batch of uint8 images [N, height, width] or, of three channels, [N, height, width, 3]. Strides count
// bytes and may have any sign.
struct Images {
  const uint8_t* data;
  int64_t image, row, column, channel;
};

// Weighted sums along one axis, as OpenCV's INTER_AREA has them: out[i] = sum_t weight[t][i] in[first[i] +
// t]. Outputs with fewer than `width` terms have weights 0 at the end; they read past `in`.
struct AreaWeights {
  int64_t in, out, width;
  const int32_t* first;  // [out]
  const float* weight;   // [width, out]
};

// `second`, if its data is not null, is laid over `frame`: the larger grey value counts.
struct GrayscaleResize {
  int64_t images, channels;  // 1 or 3
  Images frame, second;
  AreaWeights down, across;  // height and width
};

// Bytes that GrayscaleResize needs for its own use.
static inline int64_t resize_scratch(const AreaWeights& across) {
  return 4 * (across.in + across.width + 2 * across.out) + 2 * across.in;
}

// The last `size` frames of each of `envs` environments, in a ring of `slots` frames of `bytes` each.
struct FrameRing {
  int64_t envs, slots, bytes, size;
  uint8_t* data;
};

// What goes in at `slot`: a frame [envs, bytes]; where `begin`, the size - 1 slots before become `padding`
// [bytes], or the frame if it is null. With `only`, other environments are left as they are. `out`, if not
// null, gets the stacks [envs, size, bytes].
struct FramePush {
  int64_t slot;
  const uint8_t* frame;
  const uint8_t* begin;  // may be null: none
  const uint8_t* padding;
  bool only;
  uint8_t* out;
};

struct FramesTable {
  // out [images, down.out, across.out]; `scratch` is aligned to float.
  void (*grayscale_resize)(const GrayscaleResize&, uint8_t* out, void* scratch);
  // out [images, height, width] of the frames alone.
  void (*grayscale)(const Images&, int64_t images, int64_t height, int64_t width, uint8_t* out);
  void (*push)(const FrameRing&, const FramePush&);
};

const FramesTable& frames();

}  // namespace fastrl
