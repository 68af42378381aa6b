// A kernel, KERNEL in SOURCE, as a function of the CPU. Arguments as for cuLaunchKernel.
#include SOURCE

extern "C" void run(int grid_x, int grid_y, int threads, int shared_bytes, void** arguments) {
  emulation::launch({grid_x, grid_y}, threads, shared_bytes, KERNEL, arguments);
}
