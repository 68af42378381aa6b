// A kernel, KERNEL in SOURCE, as a function of the CPU. Arguments as for cuLaunchKernel.
#include SOURCE

#include <utility>

template <typename... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<Arguments*>(arguments[I])...);
}

template <typename... Arguments>
void call(void (*kernel)(Arguments...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<Arguments...>());
}

extern "C" void run(int grid_x, int grid_y, int threads, int shared_bytes, void** arguments) {
  auto kernel = [](void** arguments) { call(KERNEL, arguments); };
  emulation::launch({grid_x, grid_y}, threads, shared_bytes, kernel, arguments);
}
