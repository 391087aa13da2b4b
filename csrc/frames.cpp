#include "frames.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// ALE's luminance, round(0.2989 r + 0.587 g + 0.114 b), in integers.
uint8_t luminance(uint32_t r, uint32_t g, uint32_t b) {
  return static_cast<uint8_t>((2989 * r + 5870 * g + 1140 * b + 5000) / 10000);
}

// A row of an image in grey. Usual strides are constants: those loops can be vectorised.
void grey_row(const uint8_t* __restrict row, const Images& images, int64_t channels, int64_t width,
              uint8_t* __restrict out) {
  const auto loop = [=](int64_t column, int64_t channel) {
    for (int64_t x = 0; x < width; ++x) {
      const uint8_t* pixel = row + x * column;
      out[x] = luminance(pixel[0], pixel[channel], pixel[2 * channel]);
    }
  };
  if (channels == 3) {
    if (images.column == 3 && images.channel == 1)
      loop(3, 1);
    else
      loop(images.column, images.channel);
  } else if (images.column == 1) {
    for (int64_t x = 0; x < width; ++x) out[x] = row[x];
  } else {
    for (int64_t x = 0; x < width; ++x) out[x] = row[x * images.column];
  }
}

// sum_t weight[t][i] in[first[i] + t], added up in this order.
void sums(const float* __restrict in, const AreaWeights& along, float* __restrict out) {
  for (int64_t i = 0; i < along.out; ++i) out[i] = in[along.first[i]] * along.weight[i];
  for (int64_t t = 1; t < along.width; ++t) {
    const float* weight = along.weight + t * along.out;
    for (int64_t i = 0; i < along.out; ++i) out[i] += in[along.first[i] + t] * weight[i];
  }
}

// To the nearest integer, halves to the even one, of 0 <= x < 2^22.
uint8_t rounded(float x) {
  const float nearest = (x + 0x1p23f) - 0x1p23f;
  return static_cast<uint8_t>(static_cast<int32_t>(nearest > 255.0f ? 255.0f : nearest));
}

void grayscale_resize(const GrayscaleResize& op, uint8_t* out, void* scratch) {
  const int64_t width = op.across.in, columns = op.across.out;
  float* pixels = static_cast<float*>(scratch);
  float* row = pixels + width + op.across.width;
  float* sum = row + columns;
  uint8_t* grey = reinterpret_cast<uint8_t*>(sum + columns);
  uint8_t* other = grey + width;
  for (int64_t i = width; i < width + op.across.width; ++i) pixels[i] = 0;

  const auto load = [&](int64_t image, int64_t y) {
    grey_row(op.frame.data + image * op.frame.image + y * op.frame.row, op.frame, op.channels, width, grey);
    if (op.second.data != nullptr) {
      grey_row(op.second.data + image * op.second.image + y * op.second.row, op.second, op.channels, width,
               other);
      for (int64_t x = 0; x < width; ++x) grey[x] = grey[x] > other[x] ? grey[x] : other[x];
    }
    for (int64_t x = 0; x < width; ++x) pixels[x] = grey[x];
    sums(pixels, op.across, row);
  };
  for (int64_t image = 0; image < op.images; ++image) {
    int64_t loaded = -1;  // rows at a boundary count in two outputs
    for (int64_t y = 0; y < op.down.out; ++y, out += columns) {
      for (int64_t t = 0; t < op.down.width; ++t) {
        const float weight = op.down.weight[t * op.down.out + y];
        if (weight == 0) break;
        const int64_t source = op.down.first[y] + t;
        if (source != loaded) load(image, source);
        loaded = source;
        if (t == 0)
          for (int64_t x = 0; x < columns; ++x) sum[x] = weight * row[x];
        else
          for (int64_t x = 0; x < columns; ++x) sum[x] += weight * row[x];
      }
      for (int64_t x = 0; x < columns; ++x) out[x] = rounded(sum[x]);
    }
  }
}

void grayscale(const Images& frame, int64_t images, int64_t height, int64_t width, uint8_t* out) {
  for (int64_t image = 0; image < images; ++image)
    for (int64_t y = 0; y < height; ++y, out += width)
      grey_row(frame.data + image * frame.image + y * frame.row, frame, 3, width, out);
}

void push(const FrameRing& ring, const FramePush& push) {
  const auto bytes = static_cast<uint64_t>(ring.bytes);
  for (int64_t env = 0; env < ring.envs; ++env) {
    uint8_t* newest = ring.data + (env * ring.slots + push.slot) * ring.bytes;
    const uint8_t* frame = push.frame + env * ring.bytes;
    const bool begins = push.begin != nullptr && push.begin[env] != 0;
    if (begins || !push.only) __builtin_memcpy(newest, frame, bytes);
    if (begins)
      for (int64_t j = 1; j < ring.size; ++j)
        __builtin_memcpy(newest - j * ring.bytes, push.padding == nullptr ? frame : push.padding, bytes);
    if (push.out != nullptr)
      __builtin_memcpy(push.out + env * ring.size * ring.bytes, newest - (ring.size - 1) * ring.bytes,
                       bytes * static_cast<uint64_t>(ring.size));
  }
}

}  // namespace

extern const FramesTable frames_table;
const FramesTable frames_table = {grayscale_resize, grayscale, push};

}  // namespace FASTRL_ISA
}  // namespace fastrl
