/* Start of a bare program on the mps2-an386 board: vectors, FPU, data, heap, then main. Output and
   exit go through semihosting (newlib's librdimon). */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char data_image[], data_start[], data_end[], bss_start[], bss_end[];
extern char heap_start[], heap_end[];
extern void initialise_monitor_handles(void);
int main(void);
void reset(void);
void fault(void);
void *_sbrk(ptrdiff_t bytes);
void _init(void);
void _fini(void);

/* The heap is the PSRAM; the C library asks for it here. */
void *_sbrk(ptrdiff_t bytes)
{
    static char *top = heap_start;
    char *old = top;
    if (bytes > heap_end - top) {
        errno = ENOMEM;
        return (void *)-1;
    }
    top += bytes;
    return old;
}

void _init(void)
{
}

void _fini(void)
{
}

void fault(void)
{
    printf("fault: the processor took an exception\n");
    exit(3);
}

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the FPU          */
    *(volatile uint32_t *)0xE000ED14u |= 1u << 4;    /* CCR: trap division by zero             */
    memcpy(data_start, data_image, (size_t)(data_end - data_start));
    memset(bss_start, 0, (size_t)(bss_end - bss_start));
    initialise_monitor_handles();
    exit(main());
}

/* The linker script puts the initial stack pointer before these. */
__attribute__((section(".vectors"), used)) static void (*const vectors[15])(void) = {
    reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault,
};
