/* Replays files through a fuzz target without a fuzzer: every file that is named. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C"
#endif
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One input: an exact-size block, so that a sanitizer sees the first byte read past it. */
static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    long size;
    if (!file) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return 1;
    }
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    data = (uint8_t *)malloc(size > 0 ? (size_t)size : 1u);
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        fclose(file);
        free(data);
        return 1;
    }
    fclose(file);
    (void)LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) failed += replay(argv[i]);
    printf("replay: %d inputs\n", argc);
    return failed != 0;
}
