/* Ends with 0 if the kernel has the feature, and a fork of 32 MiB was asynchronous. */
#include <asyncfork.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t sessions(void)
{
	uint64_t n;

	return asyncfork_counter("session_start", &n) ? 0 : n;
}

int main(void)
{
	size_t size = 32 << 20;
	char *memory = malloc(size);
	uint64_t before = sessions();
	int status;
	pid_t child;

	if (!memory)
		return 2;
	memset(memory, 1, size);
	child = asyncfork_fork();
	if (child == 0)
		_exit(memory[size - 1] != 1);
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		return 2;
	printf("probe %d, asynchronous forks %d\n", asyncfork_probe(), (int)(sessions() - before));
	return asyncfork_probe() != 1 || sessions() == before;
}
