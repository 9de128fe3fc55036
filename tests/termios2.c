/* TCGETS2 and TCSETS2 for programs under qemu-user, which answers both with ENOSYS (seen in 7.2): the kernel is asked by the
 * older TCGETS and TCSETS. Serial ports are opened with the new ones, so without this no serial line opens under qemu-user.
 * Built by .ci/cross for the target, preloaded into the program there and nowhere else.
 *
 * Must not: invent a speed that the older calls can't set.
 */
#define _GNU_SOURCE
#include <asm/termbits.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <asm/ioctls.h>

/* The speeds of a terminal line, termbits.h. */
static const struct { unsigned code, baud; } speeds[] = {
    {B1200, 1200},   {B2400, 2400},   {B4800, 4800},   {B9600, 9600},     {B19200, 19200},
    {B38400, 38400}, {B57600, 57600}, {B115200, 115200}, {B230400, 230400},
};

int ioctl(int fd, unsigned long request, ...) {
    static int (*next)(int, unsigned long, ...);
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (!next) next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");

    int result = next(fd, request, argument);
    if (result == 0 || errno != ENOSYS) return result;
    struct termios2 *two = argument;
    struct termios one;
    if (request == TCGETS2) {
        if (next(fd, TCGETS, &one) != 0) return -1;
        /* The first members are the same. */
        memcpy(two, &one, sizeof one);
        two->c_ispeed = two->c_ospeed = 0;
        for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++)
            if ((one.c_cflag & CBAUD) == speeds[i].code) two->c_ispeed = two->c_ospeed = speeds[i].baud;
        return 0;
    }
    if (request == TCSETS2) {
        memcpy(&one, two, sizeof one);
        if ((two->c_cflag & CBAUD) == BOTHER) {
            one.c_cflag &= ~CBAUD;
            for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++)
                if (two->c_ospeed == speeds[i].baud) one.c_cflag |= speeds[i].code;
            if ((one.c_cflag & CBAUD) == 0) return errno = EINVAL, -1;
        }
        return next(fd, TCSETS, &one);
    }
    errno = ENOSYS;
    return result;
}
