BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $module = "$((Get-Module UnslothMerge).ModuleBase)/UnslothMerge.psd1"
    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
    $merge = { param($module, $base, $adapter, $out) Import-Module $module; Merge-LoraModel $base $adapter | Save-MergedModel $out }
}

Describe 'A merge runs' {
    It 'in a thread job' {
        $shard = Start-ThreadJob $merge -ArgumentList $module, $base, $adapter, "$TestDrive/thread" | Receive-Job -Wait -AutoRemoveJob
        $shard.Path | Should -Exist
        $shard.Tensors | Should -HaveCount 21
    }

    It 'in a job of another process' {
        $shard = Start-Job $merge -ArgumentList $module, $base, $adapter, "$TestDrive/process" | Receive-Job -Wait -AutoRemoveJob
        $shard.Path | Should -Exist
        $shard.Tensors | Should -HaveCount 21
        # What comes back is a copy; it still has its view.
        $shard | Out-String -Width 80 | Should -Match 'model\.safetensors\s+21\s+14\s+17\.7 kB'
    }

    It 'several times at once' {
        $shards = 1..3 | ForEach-Object -Parallel {
            Import-Module $using:module
            Merge-LoraModel $using:base $using:adapter | Save-MergedModel "$using:TestDrive/parallel$_"
        }
        $shards.Path | Should -HaveCount 3
        $shards.Path | Should -Exist
    }
}
