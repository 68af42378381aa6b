#include "emulation.h"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

float *exchanged, *shared;
Words* fragments;

namespace {

constexpr int STACK_BYTES = 1 << 18;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
  bool done = false;
};

struct Barrier {
  int arrived = 0, passed = 0;
};

// A copy under way: its target holds no number before it arrives.
struct Copy {
  void* to;
  std::vector<char> bytes;
};
typedef std::vector<Copy> Group;

std::vector<std::vector<Group>> groups;  // of each thread; the last one is not committed
std::vector<Fiber> fibers;
std::vector<Barrier> warp_barriers;
Barrier block_barrier;
ucontext_t scheduler;
int current = 0;
Kernel* kernel;
void** arguments;

void yield() { swapcontext(&fibers[current].context, &scheduler); }

void wait(Barrier& barrier, int threads) {
  int turn = barrier.passed;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.passed;
  }
  while (barrier.passed == turn) yield();
}

void run_fiber() {
  kernel(arguments);
  fibers[current].done = true;
  yield();
}

void run_block(int threads) {
  warp_barriers.assign(threads / 32, Barrier());
  block_barrier = Barrier();
  groups.assign(threads, std::vector<Group>(1));
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.context, run_fiber, 0);
  }
  int done = 0;
  for (long turns = 0; done < threads; ++turns) {
    if (turns > 100000000) {
      std::fprintf(stderr, "a barrier was missed\n");
      std::abort();
    }
    for (current = 0; current < threads; ++current) {
      if (fibers[current].done) continue;
      threadIdx.x = current;
      swapcontext(&scheduler, &fibers[current].context);
      done += fibers[current].done;
    }
  }
}

}  // namespace

void launch(Index grid, int threads, int shared_bytes, Kernel* kernel, void** arguments) {
  emulation::kernel = kernel;
  emulation::arguments = arguments;
  gridDim = grid;
  blockDim = {threads, 1};
  fibers = std::vector<Fiber>(threads);
  std::vector<float> of_threads(threads), of_block;
  std::vector<Words> words(threads);
  exchanged = of_threads.data();
  fragments = words.data();
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      of_block.assign(shared_bytes / sizeof(float), std::numeric_limits<float>::quiet_NaN());
      shared = of_block.data();
      run_block(threads);
    }
  }
}

void begin_copy(void* to, const void* from, int bytes, bool there) {
  bool aligned = reinterpret_cast<size_t>(to) % bytes == 0 &&
                 (!there || reinterpret_cast<size_t>(from) % bytes == 0);
  if (!aligned) {
    std::fprintf(stderr, "a copy is not aligned\n");
    std::abort();
  }
  std::vector<char> copied(bytes, 0);
  if (there) std::memcpy(copied.data(), from, bytes);
  std::memset(to, 0xff, bytes);
  groups[threadIdx.x].back().push_back({to, copied});
}

void commit_copies() { groups[threadIdx.x].emplace_back(); }

void await_copies(int left) {
  std::vector<Group>& mine = groups[threadIdx.x];
  while ((int)mine.size() - 1 > left) {
    for (const Copy& copy : mine.front()) {
      std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
    }
    mine.erase(mine.begin());
  }
}

}  // namespace emulation

void __syncthreads() { emulation::wait(emulation::block_barrier, (int)emulation::fibers.size()); }
void __syncwarp() { emulation::wait(emulation::warp_barriers[threadIdx.x / 32], 32); }
