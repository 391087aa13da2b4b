#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <tuple>
#include <vector>

#include "frame_store.h"
#include "replay.h"
#include "replay_arguments.h"
#include "replay_batch.h"
#include "replay_rows.h"
#include "replay_sequences.h"
#include "replay_shards.h"

namespace fastrl {
namespace {

constexpr int64_t kReleaseGil = 1 << 15;  // bytes copied: some microseconds of work
constexpr int64_t kRowWork = 64;          // bytes that finding and touching a row counts for
constexpr int64_t kStack = 512;
constexpr int64_t kMostRows = int64_t{1} << 31;

using Reading = std::shared_lock<ReplayLock>;
using Writing = std::unique_lock<ReplayLock>;

// Leaves of a batch: few on the stack.
struct Leaves {
  explicit Leaves(int64_t n) : many(n > kStack ? new double[static_cast<size_t>(n)] : nullptr) {}
  double* data() { return many ? many.get() : few; }
  double few[kStack];
  std::unique_ptr<double[]> many;
};

using Fields = py::typing::Dict<py::str, py::object>;
using FieldArgument =
    py::typing::Tuple<py::str, py::dtype, py::typing::Tuple<py::int_, py::ellipsis>, py::str>;
using Place =
    py::typing::Tuple<py::int_, py::int_, py::int_, py::float_>;  // added, seed, counter, max_priority
using State = py::typing::Tuple<Place, py::array_t<uint8_t>, py::object, Fields>;

// Fields kept as frames: the index of one, and of the one that follows it or -1; frames in a stack; is the
// stack the last axis.
using FramesArgument = std::tuple<int32_t, int32_t, int64_t, bool>;

class PyReplay {
 public:
  PyReplay(int64_t steps, int64_t streams, const std::vector<FieldArgument>& fields,
           const std::optional<std::string>& terminated, const std::optional<std::string>& truncated,
           int64_t window, double gamma, uint64_t seed,
           const std::optional<std::tuple<double, double, bool>>& priorities, bool flat,
           const std::vector<FramesArgument>& frames)
      : flat_(flat) {
    if (steps < 1 || streams < 1 || steps > kMostRows / streams || window < 1)
      throw py::value_error("replay: size must be in [num_envs, 2^31], and n >= 1");
    std::vector<ReplayField> places;
    for (const py::tuple& field : fields) {
      const auto name = field[0].cast<std::string>(), at = field[3].cast<std::string>();
      NamedField named = NamedFields::plain(name.c_str(), py::dtype::from_args(field[1]));
      named.shape = field[2].cast<std::vector<Py_intptr_t>>();
      for (const Py_intptr_t extent : named.shape) named.bytes *= extent;
      ReplayField place{};
      place.bytes = named.bytes;
      if (at == "sum") place.at = ReplayField::At::sum;
      if (at == "last") place.at = ReplayField::At::last;
      place.is_double = named.itemsize == 8;
      row_bytes_ += named.bytes + kRowWork;
      if (name == terminated) terminated_ = static_cast<int>(places.size());
      if (name == truncated) truncated_ = static_cast<int>(places.size());
      fields_.field.push_back(std::move(named));
      places.push_back(place);
    }
    ReplayPriorities chosen{};
    if (priorities) chosen = {std::get<0>(*priorities), std::get<1>(*priorities), std::get<2>(*priorities)};
    std::vector<std::unique_ptr<FieldStore>> stores;
    for (const auto& [current, following, stack, last] : frames) {
      const NamedField& named = fields_.field.at(static_cast<size_t>(current));
      if (stack < 1 || stack > FrameStore::kMostFrames || named.bytes % stack != 0)
        throw py::value_error("replay: a stack must have 1 to 128 frames");
      ReplayField& place = places.at(static_cast<size_t>(current));
      place.store = static_cast<int32_t>(stores.size());
      if (following >= 0) {
        ReplayField& after = places.at(static_cast<size_t>(following));
        after.store = place.store;
        after.is_following = true;
        if (after.bytes != place.bytes)
          throw py::value_error("replay: a field and the one that follows it must be alike");
      }
      auto store = std::make_unique<FrameStore>(
          FrameStore::Layout{streams, steps, stack, named.bytes / stack, named.itemsize, last});
      frames_.push_back(store.get());
      stores.push_back(std::move(store));
    }
    replay_ = std::make_unique<Replay>(ReplayOptions{steps, streams, window, gamma, seed}, std::move(places),
                                       std::move(stores), priorities ? &chosen : nullptr);
  }

  int64_t add(const Fields& values, py::handle priorities) {
    std::vector<Values> values_of;
    const std::vector<const char*> data = fields_.read("add", values, flat_, values_of);
    const int64_t n = values_of[0].rows;
    if (n % replay_->streams() != 0)
      throw py::value_error("add: fields must have rows of all " + std::to_string(replay_->streams()) +
                            " environments, got " + std::to_string(n) + " rows");
    std::vector<uint8_t> flags(static_cast<size_t>(n));
    if (terminated_ >= 0) set_flags(data, terminated_, kTerminated, flags);
    if (truncated_ >= 0) set_flags(data, truncated_, kTruncated, flags);
    double largest = 0;
    std::optional<Leaves> leaves;
    if (!priorities.is_none()) {
      leaves.emplace(n);
      read_priorities("add", priorities, n, leaves->data(), &largest);
    }
    int64_t first = 0;
    guarded<Writing>(n, [&] {
      first = replay_->add(n, data.data(), flags.data(), leaves ? leaves->data() : nullptr, largest);
    });
    return first;
  }

  Fields sample(int64_t n, py::handle out, bool replacement) {
    Batch batch(fields_, "sample", n, out, false, replay_->window() > 1);
    int64_t stored = 0;
    bool enough = false;
    guarded<Reading>(n, [&] {
      stored = replay_->stored();
      enough = n == 0 || (replacement ? stored > 0 : stored >= n);
      if (!enough) return;
      replay_->draw(n, replacement, batch.index);
      replay_->gather(batch.index, n, batch.field.data(), batch.discount);
    });
    if (!enough) refuse_batch(n, stored);
    return Fields(batch.result);
  }

  Fields sample_prioritized(int64_t n, py::handle out, double beta, bool stratified, int scale) {
    if (!(beta >= 0) || beta > std::numeric_limits<double>::max())
      throw py::value_error("sample: beta must be finite and >= 0, got " +
                            std::string(py::str(py::float_(beta))));
    if (scale < 0 || scale > static_cast<int>(WeightScale::uniform))
      throw py::value_error("sample: no such scale");
    Batch batch(fields_, "sample", n, out, true, replay_->window() > 1);
    int64_t stored = 0;
    bool drawn = false;
    guarded<Reading>(n, [&] {
      stored = replay_->stored();
      if (stored == 0 && n > 0) return;
      drawn = n == 0 || replay_->draw(n, {stratified, static_cast<WeightScale>(scale), beta}, batch.index,
                                      batch.weight);
      if (drawn) replay_->gather(batch.index, n, batch.field.data(), batch.discount);
    });
    if (!drawn && stored > 0) throw py::value_error("sample: a stored priority must be > 0, all are 0");
    if (!drawn) refuse_batch(n, stored);
    return Fields(batch.result);
  }

  // Rows by their numbers; as they were added, or windows of n steps.
  Fields gather(py::handle indexes, bool windows) {
    const Rows rows("gather", indexes);
    const int64_t n = rows.count;
    Batch batch(fields_, "gather", n, py::none(), false, windows && replay_->window() > 1);
    int64_t stored = 0;
    bool valid = false;
    guarded<Reading>(n, [&] {
      stored = replay_->stored();
      valid = rows.within(stored);
      if (!valid) return;
      if (windows)
        replay_->gather(rows.row, n, batch.field.data(), batch.discount);
      else
        replay_->gather_steps(rows.row, n, batch.field.data());
    });
    if (!valid) rows.refuse("gather", stored);
    if (n > 0) std::copy(rows.row, rows.row + n, batch.index);
    return Fields(batch.result);
  }

  void update_priorities(py::handle indexes, py::handle priorities) {
    const Rows rows("update_priorities", indexes);
    const int64_t n = rows.count;
    Leaves leaves(n);
    double largest = 0;
    read_priorities("update_priorities", priorities, n, leaves.data(), &largest);
    int64_t stored = 0;
    bool valid = false;
    guarded<Writing>(n, [&] {
      stored = replay_->stored();
      valid = rows.within(stored);
      if (valid) replay_->set_leaves(rows.row, leaves.data(), n, largest);
    });
    if (!valid) rows.refuse("update_priorities", stored);
  }

  void end_episode(std::optional<int64_t> env) {
    const int64_t streams = replay_->streams();
    if (env && (*env < 0 || *env >= streams))
      throw py::value_error("on_episode_end: env must be in [0, " + std::to_string(streams) + "), got " +
                            std::to_string(*env));
    guarded<Writing>(0, [&] {
      for (int64_t stream = env.value_or(0); stream < (env ? *env + 1 : streams); ++stream)
        replay_->end_episode(stream);
    });
  }

  void clear() {
    guarded<Writing>(replay_->capacity(), [&] { replay_->clear(); });
  }

  ReplayParts parts() { return {*replay_, lock_, fields_, frames_}; }
  int64_t stored() { return looked_at(&Replay::stored); }
  int64_t next_row() { return looked_at(&Replay::next_row); }
  int64_t added() { return looked_at(&Replay::added); }
  double max_priority() { return looked_at(&Replay::max_priority); }
  int64_t capacity() const { return replay_->capacity(); }
  int64_t bytes() { return looked_at(&Replay::bytes); }

  // How far, flags, leaves (None: no priorities) and fields of the stored rows, the oldest first.
  State state() {
    for (;;) {
      const int64_t n = stored();
      Batch batch(fields_, "state", n, py::none(), false, false);
      const auto flags = py::array_t<uint8_t>(n);
      py::object leaves = py::none();
      if (replay_->prioritized()) leaves = py::array_t<double>(n);
      double* leaf = leaves.is_none() ? nullptr : static_cast<double*>(contents(leaves.ptr()));
      auto* flag = static_cast<uint8_t*>(contents(flags.ptr()));
      Replay::Position position{};
      bool same = false;
      guarded<Reading>(n, [&] {
        same = replay_->stored() == n;  // a thread may have added rows since
        if (!same) return;
        position = replay_->position();
        const int64_t capacity = replay_->capacity();
        for (int64_t i = 0; i < n; ++i) {
          const int64_t row = (replay_->next_row() + capacity - n + i) % capacity;
          batch.index[i] = row;
          flag[i] = replay_->flags()[row];
          if (leaf != nullptr) leaf[i] = replay_->leaves()[row];
        }
        replay_->gather_steps(batch.index, n, batch.field.data());
      });
      if (!same) continue;
      batch.result.attr("pop")("indexes");
      return py::make_tuple(
          py::make_tuple(position.added, position.seed, position.counter, position.max_priority), flags,
          leaves, batch.result);
    }
  }

  // What state() gave, of a buffer of the same sizes and fields.
  void restore(const Place& position, py::handle flags, py::handle leaves, const Fields& fields) {
    const Replay::Position to{position[0].cast<int64_t>(), position[1].cast<uint64_t>(),
                              position[2].cast<uint64_t>(), position[3].cast<double>()};
    if (to.added < 0 || to.added % replay_->streams() != 0)
      throw py::value_error("load_state: added must be whole steps of all environments");
    const int64_t n = std::min(to.added, replay_->capacity());
    const auto* flag = column<uint8_t>(flags, n, "flags");
    if (std::any_of(flag, flag + n, [this](uint8_t x) { return x > replay_->largest_flag(); }))
      throw py::value_error("load_state: flags must be flags");
    const double* leaf = nullptr;
    if (replay_->prioritized()) {
      leaf = column<double>(leaves, n, "leaves");
      if (!std::all_of(leaf, leaf + n, [](double x) { return x >= 0 && x <= kLargestLeaf; }))
        throw py::value_error("load_state: leaves must be finite, >= 0 and at most 2^960");
    }
    std::vector<Values> values_of;
    const std::vector<const char*> data = fields_.read("load_state", fields, false, values_of);
    if (values_of[0].rows != n || !values_of[0].leading)
      throw py::value_error("load_state: fields must have " + std::to_string(n) + " rows, got " +
                            std::to_string(values_of[0].rows));
    guarded<Writing>(n, [&] { replay_->restore(to, flag, leaf, data.data()); });
  }

 private:
  template <class Lock, class Work>
  void guarded(int64_t rows, Work work) {
    if (rows * row_bytes_ < kReleaseGil) {
      const Lock lock(lock_, std::try_to_lock);
      if (lock.owns_lock()) return work();
    }
    py::gil_scoped_release release;
    const Lock lock(lock_);
    work();
  }

  template <class Value>
  Value looked_at(Value (Replay::*look)() const) {
    Value result{};
    guarded<Reading>(0, [&] { result = ((*replay_).*look)(); });
    return result;
  }

  void set_flags(const std::vector<const char*>& data, int which, uint8_t flag,
                 std::vector<uint8_t>& flags) const {
    const NamedField& field = fields_.field[static_cast<size_t>(which)];
    const auto bytes = static_cast<size_t>(field.itemsize);
    const char* x = data[static_cast<size_t>(which)];
    for (size_t i = 0; i < flags.size(); ++i, x += bytes) {
      int any = 0;
      for (size_t b = 0; b + 1 < bytes; ++b) any |= x[b];
      any |= x[bytes - 1] & (field.kind == 'f' ? 0x7f : 0xff);  // -0.0 is 0
      if (any != 0) flags[i] |= flag;
    }
  }

  void read_priorities(const char* op, py::handle x, int64_t n, double* leaf, double* largest) const {
    if (!replay_->prioritized()) throw py::value_error(std::string(op) + ": this buffer has no priorities");
    const bool single = is_plain(x, py::dtype::of<float>(), true);
    py::object array = single || is_plain(x, py::dtype::of<double>(), true)
                           ? py::reinterpret_borrow<py::object>(x)
                           : converter("priorities")(op, x, n);
    const auto* proxy = py::detail::array_proxy(array.ptr());
    if (proxy->nd != 1 || proxy->dimensions[0] != n)
      throw py::value_error(std::string(op) + ": priorities must be float [" + std::to_string(n) + "], got " +
                            described(x));
    const bool valid =
        single ? replay_->to_leaves(reinterpret_cast<const float*>(proxy->data), n, leaf, largest)
               : replay_->to_leaves(reinterpret_cast<const double*>(proxy->data), n, leaf, largest);
    if (!valid) converter("refuse_priorities")(op, array);
    if (!valid) throw py::value_error(std::string(op) + ": priorities are too large");
  }

  [[noreturn]] static void refuse_batch(int64_t n, int64_t stored) {
    if (stored == 0) throw py::value_error("sample: the buffer must hold rows, it is empty");
    throw py::value_error("sample: batch_size without replacement must be <= the " + std::to_string(stored) +
                          " rows stored, got " + std::to_string(n));
  }

  bool flat_;
  NamedFields fields_;
  int terminated_ = -1, truncated_ = -1;
  int64_t row_bytes_ = 0;
  ReplayLock lock_;
  std::unique_ptr<Replay> replay_;
  std::vector<FrameStore*> frames_;  // its stores
};

}  // namespace

void register_replay(py::module_& m) {
  py::class_<PyReplay>(m, "Replay", "A ring of transitions; see csrc/replay.h and fastrl.replay.")
      .def(py::init<int64_t, int64_t, const std::vector<FieldArgument>&, const std::optional<std::string>&,
                    const std::optional<std::string>&, int64_t, double, uint64_t,
                    const std::optional<std::tuple<double, double, bool>>&, bool,
                    const std::vector<FramesArgument>&>(),
           py::arg("steps"), py::arg("streams"), py::arg("fields"), py::arg("terminated"),
           py::arg("truncated"), py::arg("window"), py::arg("gamma"), py::arg("seed"), py::arg("priorities"),
           py::arg("flat"), py::arg("frames"))
      .def("add", &PyReplay::add)
      .def("sample", &PyReplay::sample)
      .def("sample_prioritized", &PyReplay::sample_prioritized)
      .def("gather", &PyReplay::gather)
      .def("update_priorities", &PyReplay::update_priorities)
      .def("end_episode", &PyReplay::end_episode)
      .def("clear", &PyReplay::clear)
      .def("state", &PyReplay::state)
      .def("restore", &PyReplay::restore)
      .def("keep_sequences", [](PyReplay& self, int64_t length, int64_t stride,
                                int ends) { keep_sequences(self.parts(), length, stride, ends); })
      .def("sample_sequences",
           [](PyReplay& self, int64_t n, double beta, bool stratified, int scale) {
             return sample_sequences(self.parts(), n, beta, stratified, scale);
           })
      .def("outline", [](PyReplay& self) { return replay_outline(self.parts()); })
      .def("rows", [](PyReplay& self, int64_t added, int64_t first,
                      int64_t last) { return replay_rows(self.parts(), added, first, last); })
      .def("frames", [](PyReplay& self, int64_t added, size_t field, int64_t env, int64_t first,
                        int64_t last) { return replay_frames(self.parts(), added, field, env, first, last); })
      .def("check_load",
           [](PyReplay& self, const ReplayOutline& outline) { check_outline(self.parts(), outline); })
      .def("begin_load", [](PyReplay& self) { begin_replay(self.parts()); })
      .def("load_rows", [](PyReplay& self, int64_t first,
                           const ReplayRows& rows) { put_replay_rows(self.parts(), first, rows); })
      .def("load_frames",
           [](PyReplay& self, size_t field, int64_t env, int64_t first, py::handle frames) {
             put_replay_frames(self.parts(), field, env, first, frames);
           })
      .def("end_load",
           [](PyReplay& self, const ReplayOutline& outline) { end_replay(self.parts(), outline); })
      .def_property_readonly("stored", &PyReplay::stored)
      .def_property_readonly("next_row", &PyReplay::next_row)
      .def_property_readonly("added", &PyReplay::added)
      .def_property_readonly("max_priority", &PyReplay::max_priority)
      .def_property_readonly("capacity", &PyReplay::capacity)
      .def_property_readonly("bytes", &PyReplay::bytes);
}

}  // namespace fastrl
