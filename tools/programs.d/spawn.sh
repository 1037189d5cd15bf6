# shellcheck shell=bash
# Node and Java: children that are spawned from a heap of half a GiB
# needs: node nodejs
# needs: java default-jre-headless
# needs: javac default-jdk-headless
# memory: 3G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

cat >spawn.js <<'END'
const { spawnSync } = require("child_process");
const heap = Array.from({ length: 1 << 22 }, (_, i) => ({ i }));
const begin = process.hrtime.bigint();
let right = 0;
for (let i = 0; i < 20; i++)
  right += spawnSync("echo", [String(heap[i].i)]).stdout.toString().trim() === String(i);
const ms = Number(process.hrtime.bigint() - begin) / 1e6;
const mib = process.memoryUsage().rss >> 20;
console.log(`${mib} MiB; 20 children in ${ms.toFixed(0)} ms|${right === 20 ? "ok" : "wrong output"}`);
END
cat >Spawn.java <<'END'
public class Spawn {
    public static void main(String[] args) throws Exception {
        byte[][] heap = new byte[8192][];
        for (int i = 0; i < heap.length; i++) {
            heap[i] = new byte[1 << 16];
            java.util.Arrays.fill(heap[i], (byte) 1);
        }
        long begin = System.nanoTime();
        int right = 0;
        for (int i = 0; i < 20; i++) {
            Process p = new ProcessBuilder("echo", "" + i * heap[i][i]).start();
            String s = new String(p.getInputStream().readAllBytes()).trim();
            if (p.waitFor() == 0 && s.equals("" + i))
                right++;
        }
        System.out.printf("512 MiB; 20 children in %d ms|%s%n", (System.nanoTime() - begin) / 1000000,
                right == 20 ? "ok" : "wrong output");
    }
}
END
javac Spawn.java

run() {
	try "Node: spawnSync" 0 - node spawn.js
	try "Java: ProcessBuilder" 0 - java -Xms700m -Xmx1g Spawn
	try "Java: ProcessBuilder, by FORK" 0 - java -Xms700m -Xmx1g -Djdk.lang.Process.launchMechanism=FORK Spawn
}

both_ways
