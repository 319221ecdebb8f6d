// Opens, scores and closes many times: neither memory nor threads may grow.
//   cycle MODEL TIMES [leak]: leak does not close, which must be detected
#include <dirent.h>
#include <unistd.h>

#include "test.h"

#ifdef __APPLE__
#include <mach/mach.h>

static double resident_mb(void) {
  task_vm_info_data_t info;
  mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
  CHECK(task_info(mach_task_self(), TASK_VM_INFO, (task_info_t)&info, &count) == KERN_SUCCESS);
  return (double)info.phys_footprint / (1 << 20);
}

static int threads(void) {
  thread_act_array_t list;
  mach_msg_type_number_t count;
  CHECK(task_threads(mach_task_self(), &list, &count) == KERN_SUCCESS);
  CHECK(vm_deallocate(mach_task_self(), (vm_address_t)list, count * sizeof *list) == KERN_SUCCESS);
  return (int)count;
}
#else
static double resident_mb(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file != NULL && fscanf(file, "%*d %ld", &pages) == 1);
  CHECK(fclose(file) == 0);
  return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static int threads(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/task");
  CHECK(folder != NULL);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) count += entry->d_name[0] != '.';
  CHECK(closedir(folder) == 0);
  return count;
}
#endif

int main(int argc, char **argv) {
  CHECK(argc == 3 || argc == 4);
  enum { DOCUMENTS = 20 };
  const int times = atoi(argv[2]), settled = times / 4;
  mlxr_text documents[DOCUMENTS];
  mlxr_ranked ranked[DOCUMENTS];
  const mlxr_text query = mlxr_string("a fox");
  double memory = 0;
  int before = 0;
  make_documents(documents, DOCUMENTS);
  for (int i = 0; i < times; i++) {
    if (i == settled) {
      memory = resident_mb();
      before = threads();
    }
    const mlxr_ranker ranker = open_ranker(argv[1]);
    EXPECT(MLXR_OK, ranker, mlxr_rerank(ranker, &query, documents, DOCUMENTS, NULL, ranked, DOCUMENTS, NULL, NULL));
    EXPECT(MLXR_OK, ranker, mlxr_trim(ranker));
    if (argc == 3) EXPECT(MLXR_OK, ranker, mlxr_close(ranker));
  }
  // A megabyte is noise, and so are a few threads that Go starts when it needs them.
  // A model or a thread per cycle would be more than a hundred.
  printf("%.1f MB and %d threads after %d times, %.1f MB and %d threads after %d\n", memory, before, settled,
         resident_mb(), threads(), times);
  CHECK(resident_mb() < memory + 3 && threads() <= before + 8);
  return 0;
}
