#include "replay_shards.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "new_array.h"

namespace fastrl {
namespace {

constexpr const char* kLoad = "load_shards";

// Fields that lie in columns, by index.
std::vector<size_t> columns(const ReplayParts& parts) {
  std::vector<size_t> found;
  for (size_t f = 0; f < parts.fields.field.size(); ++f)
    if (parts.replay.field(f).store < 0) found.push_back(f);
  return found;
}

template <class Element>
py::array_t<Element> matrix(const std::vector<Element>& values, int64_t columns) {
  if (columns == 0) return py::array_t<Element>(static_cast<py::ssize_t>(values.size()), values.data());
  return py::array_t<Element>({static_cast<py::ssize_t>(values.size()) / columns, columns}, values.data());
}

struct FramesOutline {
  std::vector<int64_t> extents, references, tails;
};

// An outline from Python, its arrays as long as they have to be.
struct Outline {
  Replay::Position position;
  int64_t stored;
  const uint8_t* flags;
  const double* leaves = nullptr;
  struct Frames {
    const FrameStore::Extent* extents;
    const FrameStore::Row* rows;
    const int64_t* tails;
  };
  std::vector<Frames> frames;
};

const uint8_t* bytes_of(py::handle x, const char* name, int64_t n) {
  if (!py::isinstance<py::array_t<uint8_t>>(x)) reject(kLoad, name, "uint8");
  const auto array = py::reinterpret_borrow<py::array>(x);
  if (array.nbytes() != n || (array.flags() & py::array::c_style) == 0)
    reject(kLoad, name, "as long as its rows");
  return static_cast<const uint8_t*>(array.data());
}

Outline parsed(const ReplayParts& parts, const ReplayOutline& outline) {
  const auto place = outline[0].cast<py::tuple>();
  const int64_t streams = parts.replay.streams();
  Outline found{{place[0].cast<int64_t>(), place[1].cast<uint64_t>(), place[2].cast<uint64_t>(),
                 place[3].cast<double>()},
                0,
                nullptr,
                nullptr,
                {}};
  const int64_t added = found.position.added;
  if (added < 0 || added % streams != 0) reject(kLoad, "added", "whole steps of all environments");
  found.stored = std::min(added, parts.replay.capacity());
  found.flags = bytes_of(outline[1], "flags", found.stored);
  if (parts.replay.prioritized())
    found.leaves = data_of<const double>(outline[2], kLoad, "leaves", {found.stored});
  for (int64_t i = 0; i < found.stored; ++i) {
    if (found.flags[i] > parts.replay.largest_flag()) reject(kLoad, "flags", "marks that the buffer has");
    if (found.leaves != nullptr && !(found.leaves[i] >= 0 && found.leaves[i] <= kLargestLeaf))
      reject(kLoad, "leaves", "leaves of a tree");
  }
  if (!parts.replay.valid_priority(found.position.max_priority))
    reject(kLoad, "max_priority", ">= 0 and (max_priority + eps)^alpha at most 2^960");
  const auto frames = outline[3].cast<py::list>();
  if (frames.size() != parts.frames.size()) reject(kLoad, "frames", "of as many fields");
  for (size_t s = 0; s < parts.frames.size(); ++s) {
    const auto one = frames[s].cast<py::tuple>();
    const auto* extents = data_of<const int64_t>(one[0], kLoad, "extents", {streams, 2});
    const auto* rows = data_of<const int64_t>(one[1], kLoad, "references", {found.stored, 2});
    const auto* tails = data_of<const int64_t>(one[2], kLoad, "tails", {streams});
    found.frames.push_back({reinterpret_cast<const FrameStore::Extent*>(extents),
                            reinterpret_cast<const FrameStore::Row*>(rows), tails});
    bool pairs = false;
    for (size_t f = 0; f < parts.fields.field.size(); ++f) {
      const ReplayField& field = parts.replay.field(f);
      pairs = pairs || (field.store == static_cast<int32_t>(s) && field.is_following);
    }
    if (!parts.frames[s]->consistent(found.frames[s].extents, found.frames[s].rows, found.stored, tails,
                                     pairs))
      reject(kLoad, "references", "to frames that are held");
  }
  return found;
}

void require_unchanged(bool same) {
  if (!same)
    throw std::runtime_error("save_shards: the buffer must not change while it is saved, rows were added");
}

}  // namespace

ReplayOutline replay_outline(const ReplayParts& parts) {
  std::vector<uint8_t> flags;
  std::vector<double> leaves;
  std::vector<FramesOutline> frames(parts.frames.size());
  Replay::Position position{};
  alone<Drawing>(parts, [&] {
    const Replay& replay = parts.replay;
    const int64_t n = replay.stored(), capacity = replay.capacity();
    position = replay.position();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = (replay.next_row() + capacity - n + i) % capacity;
      flags.push_back(replay.flags()[row]);
      if (replay.prioritized()) leaves.push_back(replay.leaves()[row]);
      for (size_t s = 0; s < frames.size(); ++s) {
        const FrameStore::Row& from = parts.frames[s]->row_data()[row];
        frames[s].references.push_back(from.obs);
        frames[s].references.push_back(from.next_obs);
      }
    }
    for (size_t s = 0; s < frames.size(); ++s) {
      for (int64_t env = 0; env < replay.streams(); ++env) {
        const FrameStore::Extent extent = parts.frames[s]->extent(env);
        frames[s].extents.push_back(extent.first);
        frames[s].extents.push_back(extent.end);
        frames[s].tails.push_back(parts.frames[s]->tail(env));
      }
    }
  });
  py::list stores;
  for (const FramesOutline& one : frames)
    stores.append(py::make_tuple(matrix(one.extents, 2), matrix(one.references, 2), matrix(one.tails, 0)));
  py::object weights = py::none();
  if (parts.replay.prioritized()) weights = matrix(leaves, 0);
  return py::make_tuple(
      py::make_tuple(position.added, position.seed, position.counter, position.max_priority),
      matrix(flags, 0), weights, stores);
}

ReplayRows replay_rows(const ReplayParts& parts, int64_t added, int64_t first, int64_t last) {
  const int64_t n = last - first, capacity = parts.replay.capacity();
  if (first < 0 || n < 0 || n > capacity || last > added) reject("save_shards", "rows", "stored");
  ReplayRows rows;
  std::vector<char*> to(parts.fields.field.size());
  for (const size_t f : columns(parts)) {
    const NamedField& field = parts.fields.field[f];
    const py::object array = new_rows(field, n);
    to[f] = static_cast<char*>(contents(array.ptr()));
    rows[field.name] = array;
  }
  std::vector<int64_t> index(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) index[static_cast<size_t>(i)] = (first + i) % capacity;
  bool same = false;
  alone<Reading>(parts, [&] {
    same = parts.replay.added() == added && first >= added - parts.replay.stored();
    if (same) parts.replay.gather_steps(index.data(), n, to.data());
  });
  require_unchanged(same);
  return rows;
}

py::array replay_frames(const ReplayParts& parts, int64_t added, size_t field, int64_t env, int64_t first,
                        int64_t last) {
  const FrameStore& store = *parts.frames.at(field);
  if (env < 0 || env >= parts.replay.streams() || first > last) reject("save_shards", "frames", "held");
  const int64_t bytes = store.layout().frame_bytes;
  py::array_t<uint8_t> frames({last - first, bytes});
  uint8_t* to = frames.mutable_data();
  bool same = false;
  alone<Reading>(parts, [&] {
    const FrameStore::Extent held = store.extent(env);
    same = parts.replay.added() == added && first >= held.first && last <= held.end;
    if (same) store.read_frames(env, first, last - first, to);
  });
  require_unchanged(same);
  return std::move(frames);
}

void check_outline(const ReplayParts& parts, const ReplayOutline& outline) { parsed(parts, outline); }

void begin_replay(const ReplayParts& parts) {
  alone<Writing>(parts, [&] { parts.replay.clear(); });
}

void put_replay_rows(const ReplayParts& parts, int64_t first, const ReplayRows& rows) {
  std::vector<const char*> from(parts.fields.field.size());
  int64_t n = -1;
  std::vector<py::object> owners;
  for (const size_t f : columns(parts)) {
    const NamedField& field = parts.fields.field[f];
    const py::object x = rows[field.name];
    if (!is_plain(x, field.dtype)) reject(kLoad, "rows", "of the fields' dtypes");
    const auto array = py::reinterpret_borrow<py::array>(x);
    const int64_t count = array.nbytes() / field.bytes;
    if (array.nbytes() % field.bytes != 0 || (n >= 0 && n != count) || count > parts.replay.capacity())
      reject(kLoad, "rows", "as many of each field");
    n = count;
    from[f] = static_cast<const char*>(array.data());
    owners.push_back(x);
  }
  if (n > 0) alone<Writing>(parts, [&] { parts.replay.put_rows(first, n, from.data()); });
}

void put_replay_frames(const ReplayParts& parts, size_t field, int64_t env, int64_t first,
                       py::handle frames) {
  FrameStore& store = *parts.frames.at(field);
  const int64_t bytes = store.layout().frame_bytes;
  if (!py::isinstance<py::array>(frames)) reject(kLoad, "frames", "an array");
  const int64_t count = py::reinterpret_borrow<py::array>(frames).nbytes() / bytes;
  const uint8_t* from = bytes_of(frames, "frames", count * bytes);
  if (env < 0 || env >= parts.replay.streams() || first < 0) reject(kLoad, "frames", "of an environment");
  bool next = false;
  alone<Writing>(parts, [&] { next = store.restore_frames(env, first, count, from); });
  if (!next) reject(kLoad, "frames", "in order");
}

void end_replay(const ReplayParts& parts, const ReplayOutline& outline) {
  const Outline found = parsed(parts, outline);
  bool whole = true;
  alone<Writing>(parts, [&] {
    parts.replay.restore(found.position, found.flags, found.leaves, nullptr);
    const int64_t oldest = (found.position.added - found.stored) % parts.replay.capacity();
    for (size_t s = 0; s < found.frames.size(); ++s) {
      const Outline::Frames& one = found.frames[s];
      whole = whole && parts.frames[s]->restore_rows(oldest, found.stored, one.extents, one.rows, one.tails);
    }
    if (!whole) parts.replay.clear();
  });
  if (!whole) reject(kLoad, "frames", "all that the rows refer to");
}

}  // namespace fastrl
